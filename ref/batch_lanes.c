#include "ref/batch_lanes.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define LANES_BLOCK 48
/* The transposed x, and a row's logits, at most: 64 MiB, 1 MiB. */
#define TRANSPOSED_MOST ((int64_t)16 << 20)
#define LOGITS_MOST ((int64_t)256 << 10)

/* Taps of one output coordinate: those of its phase within the image. */
struct reach {
    const struct axis_class *class;
    int64_t phase;       /* in its class */
    int64_t first, taps; /* of the class's taps */
    int64_t in; /* input coordinate of the first; they fall by one distance after another */
    int64_t position;
};

struct batch_lanes {
    const struct tile_plan *plan;
    int64_t out_h, out_w;
    struct reach *rows, *columns; /* [out_h], [out_w] */
    /* Packed weights of (row class, row phase, column class, column phase), for each group. */
    float **weights;
    int64_t *row_index, *column_index; /* of a class's first phase */
    int64_t column_phases;
    float *conv_bias; /* [Cout] */
};

static int64_t padded_images(int64_t images)
{
    return (images + STRIP_PITCH - 1) / STRIP_PITCH * STRIP_PITCH + STRIP_PITCH;
}

bool batch_lanes_pays(const struct tile_plan *plan)
{
    const struct problem *p = &plan->subpixel.problem;
    const int64_t height = plan->image_rows, width = plan->pitch;
    if (p->batch < LANES_BLOCK / 2 ||
        p->in_channels * p->height * p->width * padded_images(p->batch) > TRANSPOSED_MOST ||
        problem_output_w(p) * p->out_channels * LANES_BLOCK > LOGITS_MOST)
        return false;
    double taps = 0.0;
    for (int64_t i = 0; i < plan->subpixel.rows.count; i++)
        for (int64_t j = 0; j < plan->subpixel.columns.count; j++) {
            const struct axis_class *r = &plan->subpixel.rows.classes[i];
            const struct axis_class *c = &plan->subpixel.columns.classes[j];
            taps += (double)(r->phase_count * r->tap_count * c->phase_count * c->tap_count);
        }
    const double computed = 2.0 * taps * (double)(height * width * p->batch) *
                            (double)(p->in_channels / p->groups * p->out_channels);
    return computed > 1.12 * problem_flops(p);
}

static bool axis_reaches(const struct axis_classes *axis, int64_t out, int64_t stride, int64_t in,
                         struct reach **reaches)
{
    struct reach *r = *reaches = calloc((size_t)out + 1, sizeof *r);
    for (int64_t i = 0; r && i < axis->count; i++)
        for (int64_t m = 0; m < axis->classes[i].phase_count; m++) {
            const struct axis_class *class = &axis->classes[i];
            const struct axis_phase *phase = &class->phases[m];
            for (int64_t a = phase->first; a < phase->end; a++) {
                struct reach *to = &r[a * stride + phase->offset];
                *to = (struct reach){.class = class, .phase = m, .position = a};
                for (int64_t t = 0; t < class->tap_count; t++) {
                    const int64_t at = a + class->distances[t];
                    if (at < 0 || at >= in)
                        continue;
                    to->first = to->taps == 0 ? t : to->first;
                    to->taps++;
                }
            }
        }
    return r != NULL;
}

/* Weights of a phase of both axes, for each group [Cout/groups][taps * Cin/groups], packed. */
static float *pack_phase(const struct tile_plan *plan, const struct axis_class *rows, int64_t m,
                         const struct axis_class *columns, int64_t n, const float *weight)
{
    const struct problem *p = &plan->subpixel.problem;
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t k = rows->tap_count * columns->tap_count * in;
    float *packed = malloc((size_t)(p->out_channels * k + 1) * sizeof *packed);
    float *plain = malloc((size_t)(out * k + 1) * sizeof *plain);
    for (int64_t group = 0; packed && plain && group < p->groups; group++) {
        float *to = plain;
        for (int64_t oc = 0; oc < out; oc++)
            for (int64_t th = 0; th < rows->tap_count; th++)
                for (int64_t tw = 0; tw < columns->tap_count; tw++)
                    for (int64_t ic = 0; ic < in; ic++)
                        *to++ = weight[(((group * in + ic) * out + oc) * p->kernel_h +
                                        rows->phases[m].taps[th]) *
                                           p->kernel_w +
                                       columns->phases[n].taps[tw]];
        plan->kernels->pack_f32(plain, out, k, packed + group * out * k);
    }
    if (!plain) {
        free(packed);
        packed = NULL;
    }
    free(plain);
    return packed;
}

static int64_t count_phases(const struct axis_classes *axis, int64_t *index)
{
    int64_t n = 0;
    for (int64_t i = 0; i < axis->count; i++) {
        if (index)
            index[i] = n;
        n += axis->classes[i].phase_count;
    }
    return n;
}

void batch_lanes_free(struct batch_lanes *l)
{
    if (!l)
        return;
    const int64_t phases =
        l->plan ? count_phases(&l->plan->subpixel.rows, NULL) * l->column_phases : 0;
    for (int64_t i = 0; l->weights && i < phases; i++)
        free(l->weights[i]);
    free(l->weights);
    free(l->rows);
    free(l->columns);
    free(l->row_index);
    free(l->column_index);
    free(l);
}

enum status batch_lanes_create(struct batch_lanes **lanes, const struct tile_plan *plan,
                               const float *weight, struct error *error)
{
    const struct subpixel *s = &plan->subpixel;
    const struct problem *p = &s->problem;
    struct batch_lanes *l = *lanes = calloc(1, sizeof *l);
    if (!l)
        goto out_of_memory;
    l->plan = plan;
    l->out_h = problem_output_h(p);
    l->out_w = problem_output_w(p);
    l->row_index = calloc((size_t)s->rows.count, sizeof *l->row_index);
    l->column_index = calloc((size_t)s->columns.count, sizeof *l->column_index);
    if (!l->row_index || !l->column_index ||
        !axis_reaches(&s->rows, l->out_h, p->stride_h, p->height, &l->rows) ||
        !axis_reaches(&s->columns, l->out_w, p->stride_w, p->width, &l->columns))
        goto out_of_memory;
    const int64_t row_phases = count_phases(&s->rows, l->row_index);
    l->column_phases = count_phases(&s->columns, l->column_index);
    l->weights = calloc((size_t)(row_phases * l->column_phases), sizeof *l->weights);
    if (!l->weights)
        goto out_of_memory;
    float **to = l->weights;
    for (int64_t i = 0; i < s->rows.count; i++)
        for (int64_t m = 0; m < s->rows.classes[i].phase_count; m++)
            for (int64_t j = 0; j < s->columns.count; j++)
                for (int64_t n = 0; n < s->columns.classes[j].phase_count; n++)
                    if (!(*to++ = pack_phase(plan, &s->rows.classes[i], m, &s->columns.classes[j],
                                             n, weight)))
                        goto out_of_memory;
    return STATUS_OK;

out_of_memory:
    batch_lanes_free(l);
    *lanes = NULL;
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for packed weights");
}

/* x as [Cin][H * W][pitch], channels `plane` apart; what is behind the last image is zero. */
struct transposed {
    float *data;
    int64_t pitch, plane;
};

/* A thread's buffers. */
struct scratch {
    float *c, *reciprocal, *line;
    const float **c_of, **reciprocal_of; /* [out_w] */
    int64_t *place, *offsets;
};

static bool scratch_init(struct scratch *s, const struct batch_lanes *l)
{
    const struct problem *p = &l->plan->subpixel.problem;
    const size_t row = (size_t)(l->out_w * LANES_BLOCK) * sizeof(float);
    const size_t n = (size_t)l->out_w;
    s->c = aligned_alloc(64, row * (size_t)p->out_channels);
    s->reciprocal = aligned_alloc(64, row);
    s->line = aligned_alloc(64, row);
    s->c_of = calloc(n, sizeof *s->c_of);
    s->reciprocal_of = calloc(n, sizeof *s->reciprocal_of);
    s->place = calloc(n, sizeof *s->place);
    s->offsets = malloc((size_t)(l->plan->subpixel.max_taps * p->in_channels / p->groups + 1) *
                        sizeof *s->offsets);
    for (int64_t i = 0; s->place && i < l->out_w; i++)
        s->place[i] = i;
    return s->c && s->reciprocal && s->line && s->c_of && s->reciprocal_of && s->place &&
           s->offsets;
}

static void scratch_free(struct scratch *s)
{
    free(s->c);
    free(s->reciprocal);
    free(s->line);
    free(s->c_of);
    free(s->reciprocal_of);
    free(s->place);
    free(s->offsets);
}

/* Logits of output (oh, ow) for `count` images from `first` on: c [Cout][LANES_BLOCK]. */
static void pixel_logits(const struct batch_lanes *l, const struct transposed *x, int64_t oh,
                         int64_t ow, int64_t first, int64_t count, int64_t *offsets, float *c)
{
    const struct tile_plan *plan = l->plan;
    const struct problem *p = &plan->subpixel.problem;
    const struct reach *row = &l->rows[oh], *column = &l->columns[ow];
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t width = column->class->tap_count, k = row->class->tap_count * width * in;
    const int64_t run = column->taps * in;
    const float *weights =
        l->weights[(l->row_index[row->class - plan->subpixel.rows.classes] + row->phase) *
                       l->column_phases +
                   l->column_index[column->class - plan->subpixel.columns.classes] + column->phase];
    /* Taps that follow each other in W are one product. */
    const int64_t joined = column->taps == width ? row->taps : 1;
    for (int64_t th = 0; th == 0 || th < row->taps; th += joined ? joined : 1) {
        int64_t *offset = offsets;
        for (int64_t i = th; i < th + joined && i < row->taps; i++)
            for (int64_t tw = 0; tw < column->taps; tw++) {
                const int64_t ih = row->position + row->class->distances[row->first + i];
                const int64_t iw = column->position + column->class->distances[column->first + tw];
                for (int64_t ic = 0; ic < in; ic++)
                    *offset++ = ic * x->plane + (ih * p->width + iw) * x->pitch;
            }
        for (int64_t group = 0; group < p->groups; group++) {
            const struct tile_product_f32 t = {
                .weights = weights + group * out * k,
                .rows = out,
                .k = k,
                .first = run == 0 ? 0 : ((row->first + th) * width + column->first) * in,
                .depth = offset - offsets,
                .x = x->data + group * in * x->plane + first,
                .offsets = offsets,
                .c = c + group * out * LANES_BLOCK,
                .pitch = LANES_BLOCK,
                .row_step = 1,
                .positions = count,
                .initial = th == 0 ? plan->conv_bias + group * out : NULL};
            plan->kernels->product_f32(&t);
        }
    }
}

static void run_row(const struct batch_lanes *l, const struct transposed *x, int64_t oh,
                    int64_t first, int64_t count, float *y, const struct scratch *s,
                    struct model_gemm_stages *stages)
{
    const struct tile_plan *plan = l->plan;
    const int64_t channels = plan->epilogue.channels;
    const double start = omp_get_wtime();
    for (int64_t ow = 0; ow < l->out_w; ow++)
        pixel_logits(l, x, oh, ow, first, count, s->offsets, s->c + ow * channels * LANES_BLOCK);
    const double middle = omp_get_wtime();
    for (int64_t ow = 0; ow < l->out_w; ow++) {
        float *c = s->c + ow * channels * LANES_BLOCK,
              *reciprocal = s->reciprocal + ow * LANES_BLOCK;
        plan->kernels->softmax_f32(channels, c, LANES_BLOCK, count, reciprocal);
        s->c_of[ow] = c;
        s->reciprocal_of[ow] = reciprocal;
    }
    const struct sigmoid_row row = {l->out_w,         l->out_w, count,  s->c_of,
                                    s->reciprocal_of, s->place, s->line};
    for (int64_t channel = 0; channel < channels; channel++) {
        plan->kernels->sigmoid_f32(&plan->epilogue, channel, &row);
        for (int64_t n = 0; n < count; n++)
            memcpy(y + (((first + n) * channels + channel) * l->out_h + oh) * l->out_w,
                   s->line + n * l->out_w, (size_t)l->out_w * sizeof *y);
        for (int64_t ow = 0; ow < l->out_w; ow++)
            s->c_of[ow] += LANES_BLOCK;
    }
    stages->conv_s += middle - start;
    stages->epilogue_s += omp_get_wtime() - middle;
}

/* One channel's pixels, images side by side. */
static void transpose(const struct problem *p, const float *x, int64_t images, int64_t channel,
                      const struct transposed *t)
{
    const int64_t pixels = p->height * p->width;
    float *to = t->data + channel * t->plane;
    memset(to, 0, (size_t)t->plane * sizeof *to);
    for (int64_t n = 0; n < images; n++)
        for (int64_t i = 0; i < pixels; i++)
            to[i * t->pitch + n] = x[(n * p->in_channels + channel) * pixels + i];
}

enum status batch_lanes_run(const struct batch_lanes *l, const float *x, float *y, int64_t images,
                            struct model_gemm_stages *stages, struct error *error)
{
    const struct problem *p = &l->plan->subpixel.problem;
    /* Odd numbers of cache lines spread pixels and channels over the sets of the caches. */
    struct transposed t = {.pitch = (padded_images(images) / STRIP_PITCH | 1) * STRIP_PITCH};
    t.plane = (p->height * p->width * t.pitch / STRIP_PITCH | 1) * STRIP_PITCH;
    t.data = aligned_alloc(
        64, (size_t)((p->in_channels * t.plane + LANES_BLOCK) / STRIP_PITCH * STRIP_PITCH) *
                sizeof *t.data);
    const int64_t blocks = (images + LANES_BLOCK - 1) / LANES_BLOCK;
    double conv_s = 0.0, epilogue_s = 0.0;
    bool out_of_memory = !t.data;
    int threads = 1;
#pragma omp parallel reduction(+ : conv_s, epilogue_s)
    {
        struct scratch s = {0};
        struct model_gemm_stages spent = {0};
        const bool ready = scratch_init(&s, l);
        if (!ready) {
#pragma omp atomic write
            out_of_memory = true;
        }
#pragma omp single
        threads = omp_get_num_threads();
        const double start = omp_get_wtime();
#pragma omp for schedule(static)
        for (int64_t channel = 0; channel < p->in_channels; channel++)
            if (t.data)
                transpose(p, x, images, channel, &t);
        spent.conv_s += omp_get_wtime() - start;
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < blocks * l->out_h; item++) {
            const int64_t first = item / l->out_h * LANES_BLOCK;
            const int64_t count = images - first < LANES_BLOCK ? images - first : LANES_BLOCK;
            if (ready && t.data)
                run_row(l, &t, item % l->out_h, first, count, y, &s, &spent);
        }
        conv_s += spent.conv_s;
        epilogue_s += spent.epilogue_s;
        scratch_free(&s);
    }
    free(t.data);
    if (stages)
        *stages = (struct model_gemm_stages){conv_s / threads, epilogue_s / threads};
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the buffers of a thread");
    return STATUS_OK;
}
