#include "gpu/conv_tables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"

#define CHANNEL_BLOCK 16

bool conv_tables_supports(const struct problem *p, char *reason, size_t reason_size)
{
    const struct {
        const char *name;
        int64_t size;
    } sizes[] = {{"height", p->height},
                 {"width", p->width},
                 {"output height", problem_output_h(p)},
                 {"output width", problem_output_w(p)},
                 {"padding", p->padding_h > p->padding_w ? p->padding_h : p->padding_w},
                 {"stride", p->stride_h > p->stride_w ? p->stride_h : p->stride_w},
                 {"kernel's reach", p->dilation_h * p->kernel_h > p->dilation_w * p->kernel_w
                                        ? p->dilation_h * p->kernel_h
                                        : p->dilation_w * p->kernel_w},
                 {"in_channels", p->in_channels},
                 {"out_channels", p->out_channels}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].size >= CONV_DIMENSION_LIMIT) {
            snprintf(reason, reason_size, "%s %lld is past the kernels' 32-bit coordinates",
                     sizes[i].name, (long long)sizes[i].size);
            return false;
        }
    return true;
}

/* One axis: begin [phases + 1], tap [kernel], distance [kernel]. Returns the number of phases. */
static int axis_fill(int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                     int *begin, int *tap, int *distance)
{
    const int64_t phases = stride < out ? stride : out;
    int count = 0;
    for (int64_t r = 0; r < phases; r++) {
        begin[r] = count;
        for (int64_t k = 0; k < kernel; k++) {
            const int64_t reach = r + padding - k * dilation;
            if (reach % stride != 0)
                continue;
            tap[count] = (int)k;
            distance[count++] = (int)(reach / stride);
        }
    }
    begin[phases] = count;
    return (int)phases;
}

static void pack_weights(float *packed, const struct problem *p, const struct conv_args *a,
                         const int *row_tap, int rows, const int *column_tap, int columns,
                         const float *weight)
{
    const int64_t taps = (int64_t)a->kernel_h * a->kernel_w;
    for (int g = 0; g < a->groups; g++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) {
                const int64_t block = ((int64_t)g * a->kernel_h + r) * a->kernel_w + c;
                const float *from = weight + row_tap[r] * p->kernel_w + column_tap[c] +
                                    (int64_t)g * a->group_in * a->group_out * taps;
                for (int64_t ic = 0; ic < a->group_in; ic++) {
                    float *to = packed + (block * a->group_in_padded + ic) * a->group_out_padded;
                    for (int64_t oc = 0; oc < a->group_out; oc++)
                        to[oc] = from[(ic * a->group_out + oc) * taps];
                }
            }
}

static int round_up(int64_t value, int multiple)
{
    return (int)((value + multiple - 1) / multiple * multiple);
}

enum status conv_tables_init(struct conv_tables *t, const struct variant_context *context,
                             int column_block, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    struct conv_args *a = &t->args;
    const int64_t count = problem_weight_count(p);
    const size_t row_ints = (size_t)(p->stride_h + 1 + 2 * p->kernel_h);
    const size_t column_ints = (size_t)(p->stride_w + 1 + 2 * p->kernel_w);
    int *axes = NULL;
    float *packed = NULL;
    size_t packed_count = 0;

    memset(t, 0, sizeof *t);
    a->weight = context->d_weight;
    a->conv_bias = context->d_conv_bias;
    a->bias = context->d_bias;
    a->height = (int)p->height;
    a->width = (int)p->width;
    a->output_h = (int)problem_output_h(p);
    a->output_w = (int)problem_output_w(p);
    a->x_image = problem_input_image(p);
    a->x_plane = p->height * p->width;
    a->y_image = problem_output_image(p);
    a->y_plane = (int64_t)a->output_h * a->output_w;
    a->stride_h = (int)p->stride_h;
    a->stride_w = (int)p->stride_w;
    a->kernel_h = (int)p->kernel_h;
    a->kernel_w = (int)p->kernel_w;
    a->groups = (int)p->groups;
    a->group_in = (int)(p->in_channels / p->groups);
    a->group_out = (int)(p->out_channels / p->groups);
    a->group_in_padded = round_up(a->group_in, CHANNEL_BLOCK);
    a->group_out_padded = round_up(a->group_out, column_block ? column_block : 1);
    a->out_channels = (int)p->out_channels;
    a->scale = p->scaling_factor;

    t->finite_weights = true;
    for (int64_t i = 0; i < count && t->finite_weights; i++)
        t->finite_weights = isfinite(context->h_params.weight[i]);

    axes = (int *)malloc((row_ints + column_ints) * sizeof *axes);
    if (!axes) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of host memory for the tap tables");
        goto out;
    }
    {
        int *row_begin = axes, *row_tap = row_begin + p->stride_h + 1;
        int *row_distance = row_tap + p->kernel_h;
        int *column_begin = axes + row_ints, *column_tap = column_begin + p->stride_w + 1;
        int *column_distance = column_tap + p->kernel_w;
        a->phases_h = axis_fill(a->output_h, p->kernel_h, p->stride_h, p->padding_h, p->dilation_h,
                                row_begin, row_tap, row_distance);
        a->phases_w = axis_fill(a->output_w, p->kernel_w, p->stride_w, p->padding_w, p->dilation_w,
                                column_begin, column_tap, column_distance);
        CHECK(cudaMalloc(&t->d_axes, (row_ints + column_ints) * sizeof *axes));
        CHECK(cudaMemcpy(t->d_axes, axes, (row_ints + column_ints) * sizeof *axes,
                         cudaMemcpyHostToDevice));
        a->row_begin = t->d_axes;
        a->row_tap = t->d_axes + (row_tap - axes);
        a->row_distance = t->d_axes + (row_distance - axes);
        a->column_begin = t->d_axes + (column_begin - axes);
        a->column_tap = t->d_axes + (column_tap - axes);
        a->column_distance = t->d_axes + (column_distance - axes);

        if (column_block && t->finite_weights) {
            packed_count = (size_t)a->groups * a->kernel_h * a->kernel_w * a->group_in_padded *
                           a->group_out_padded;
            packed = (float *)calloc(packed_count, sizeof *packed);
            if (!packed) {
                status = error_set(error, STATUS_ENVIRONMENT,
                                   "out of host memory for %zu packed weights", packed_count);
                goto out;
            }
            pack_weights(packed, p, a, row_tap, row_begin[a->phases_h], column_tap,
                         column_begin[a->phases_w], context->h_params.weight);
            CHECK(cudaMalloc(&t->d_packed, packed_count * sizeof *packed));
            CHECK(cudaMemcpy(t->d_packed, packed, packed_count * sizeof *packed,
                             cudaMemcpyHostToDevice));
            a->packed = t->d_packed;
        }
    }
out:
    free(axes);
    free(packed);
    if (status != STATUS_OK)
        conv_tables_release(t);
    return status;
}

void conv_tables_release(struct conv_tables *t)
{
    cudaFree(t->d_axes);
    cudaFree(t->d_packed);
    t->d_axes = NULL;
    t->d_packed = NULL;
}

enum status conv_grid(const struct conv_args *a, int pixels, int64_t blocks, unsigned *grid,
                      struct error *error)
{
    /* Phase 0 has the most outputs on both axes. */
    const int64_t rows = (a->output_h + a->stride_h - 1) / a->stride_h;
    const int64_t columns = (a->output_w + a->stride_w - 1) / a->stride_w;
    const int64_t tiles = (a->images * rows * columns + pixels - 1) / pixels;
    const int64_t phases = (int64_t)a->phases_h * a->phases_w;
    if ((double)tiles * (double)phases * (double)blocks > 2147483647.0)
        return error_set(
            error, STATUS_UNSUPPORTED,
            "%lld tiles x %lld phases x %lld column blocks are more than a grid holds; "
            "use a smaller batch",
            (long long)tiles, (long long)phases, (long long)blocks);
    *grid = (unsigned)(tiles * phases * blocks);
    return STATUS_OK;
}

void conv_note_direct(const struct conv_tables *t, struct variant_context *context)
{
    snprintf(context->note, sizeof context->note, "direct convolution: %s",
             !t->finite_weights            ? "weights that are not finite"
             : context->problem.groups > 1 ? "groups too small for a tile"
                                           : "an extreme scaling_factor");
}
