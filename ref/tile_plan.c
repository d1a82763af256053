#include "ref/tile_plan.h"

#include <stdlib.h>
#include <string.h>

#include "ref/conv_transpose_gemm.h"

/* Logits of a block: 256 KiB of the 1 MiB (Zen 4) or 2 MiB (Sapphire Rapids) of L2; the weights of
 * a row group (256 KiB in the home case) and the block's part of x (100 KiB) have the rest. */
#define BLOCK_LOGITS ((int64_t)64 << 10)
/* Blocks are whole tiles on every instruction set, at least one and no longer than pays. */
#define BLOCK_STEP 96
#define BLOCK_MOST (8 * BLOCK_STEP)
/* More row phases are computed together only while their blocks stay this long. */
#define BLOCK_ENOUGH (2 * BLOCK_STEP)
/* Elements of a padded region: 2 MiB. Each block takes its part of it to L1 once a row group. */
#define REGION_ELEMENTS ((int64_t)512 << 10)

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Extent of an axis over its classes. */
struct axis_extent {
    int64_t first, end; /* positions */
    int64_t origin;     /* least input index that a tap reaches */
    int64_t reach;      /* most that a tap reaches back from its position */
};

static struct axis_extent axis_extent(const struct axis_classes *axis)
{
    struct axis_extent e = {.first = INT64_MAX, .end = INT64_MIN, .origin = INT64_MAX};
    for (int64_t i = 0; i < axis->count; i++) {
        const struct axis_class *c = &axis->classes[i];
        const int64_t back = c->tap_count ? -c->distances[c->tap_count - 1] : 0;
        e.first = least(e.first, c->first);
        e.end = most(e.end, c->end);
        e.origin = least(e.origin, c->first - back);
        e.reach = most(e.reach, back);
    }
    return e;
}

/* Distance from one row (or image) of n to the next: positions don't meet, and zeros lie where taps
 * reach beyond either end. */
static int64_t axis_pitch(const struct axis_extent *e, int64_t n)
{
    return most(most(e->end - e->first, e->end), most(n - e->origin, 1));
}

static bool columns_init(struct tile_plan *plan)
{
    const struct axis_classes *columns = &plan->subpixel.columns;
    for (int64_t j = 0; j < columns->count; j++)
        plan->column_count += columns->classes[j].phase_count;
    plan->columns = calloc((size_t)plan->column_count, sizeof *plan->columns);
    if (!plan->columns)
        return false;
    int64_t n = 0, low = INT64_MAX, high = INT64_MIN;
    for (int64_t j = 0; j < columns->count; j++)
        for (int64_t m = 0; m < columns->classes[j].phase_count; m++, n++) {
            const int64_t offset = columns->classes[j].phases[m].offset;
            plan->columns[n] = (struct column_phase){&columns->classes[j], m, offset, 0};
            low = least(low, offset);
            high = most(high, offset);
        }
    const struct problem *p = &plan->subpixel.problem;
    plan->columns_contiguous = n == p->stride_w && high - low < p->stride_w;
    /* As in y, or else in any order: offsets may lie as far apart as the stride is long. */
    for (int64_t i = 0; i < n; i++)
        plan->columns[i].place = plan->columns_contiguous ? plan->columns[i].offset - low : i;
    return true;
}

/* W of one group and part as [rows][k], then in the tiles' order. */
static void pack_part(const struct tile_plan *plan, const struct row_group *g,
                      const struct plan_product *product, const float *weight, int64_t group,
                      int64_t part, float *plain, float *packed)
{
    const struct problem *p = &plan->subpixel.problem;
    const struct axis_class *columns = product->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    float *to = plain;
    for (int64_t row = 0; row < product->rows; row++) {
        const int64_t at = part * product->rows + row; /* phases, then channels of the group */
        const int64_t phase = at / out_per_group, oc = at % out_per_group;
        const int64_t *kh = g->row_class->phases[g->first + phase / columns->phase_count].taps;
        const int64_t *kw = columns->phases[phase % columns->phase_count].taps;
        for (int64_t th = 0; th < g->row_class->tap_count; th++)
            for (int64_t tw = 0; tw < columns->tap_count; tw++)
                for (int64_t ic = 0; ic < in_per_group; ic++)
                    *to++ =
                        weight[(((group * in_per_group + ic) * out_per_group + oc) * p->kernel_h +
                                kh[th]) *
                                   p->kernel_w +
                               kw[tw]];
    }
    plan->kernels->pack_f32(plain, product->rows, product->k, packed);
}

static bool product_init(struct tile_plan *plan, const struct row_group *g,
                         struct plan_product *product, const float *weight)
{
    const struct problem *p = &plan->subpixel.problem;
    const struct axis_class *rows = g->row_class, *columns = product->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    const int64_t phases = g->count * columns->phase_count;
    product->k = rows->tap_count * columns->tap_count * in_per_group;
    /* One group: all channels of all phases. Depthwise: the phases. Else the channels of one. */
    product->parts = p->groups == 1 || out_per_group == 1 ? 1 : phases;
    product->rows = phases * out_per_group / product->parts;
    product->row_step = p->groups == 1 || out_per_group > 1 ? 1 : p->out_channels;
    if (plan->by_definition)
        return true;

    const int64_t one = product->rows * product->k;
    product->offsets = malloc((size_t)most(1, product->k) * sizeof *product->offsets);
    product->weights =
        malloc((size_t)most(1, one * product->parts * p->groups) * sizeof *product->weights);
    float *plain = malloc((size_t)most(1, one) * sizeof *plain);
    const bool ready = product->offsets && product->weights && plain;
    for (int64_t group = 0; ready && group < p->groups; group++)
        for (int64_t part = 0; part < product->parts; part++)
            pack_part(plan, g, product, weight, group, part, plain,
                      product->weights + (group * product->parts + part) * one);
    int64_t *offset = product->offsets;
    for (int64_t th = 0; ready && th < rows->tap_count; th++)
        for (int64_t tw = 0; tw < columns->tap_count; tw++)
            for (int64_t ic = 0; ic < in_per_group; ic++)
                *offset++ =
                    ic * plan->plane + rows->distances[th] * plan->pitch + columns->distances[tw];
    free(plain);
    return ready;
}

static bool groups_init(struct tile_plan *plan, const float *weight)
{
    const struct subpixel *s = &plan->subpixel;
    for (int64_t i = 0; i < s->rows.count; i++)
        plan->group_count +=
            (s->rows.classes[i].phase_count + plan->group_phases - 1) / plan->group_phases;
    plan->groups = calloc((size_t)plan->group_count, sizeof *plan->groups);
    if (!plan->groups)
        return false;
    struct row_group *g = plan->groups;
    for (int64_t i = 0; i < s->rows.count; i++)
        for (int64_t m = 0; m < s->rows.classes[i].phase_count; m += plan->group_phases, g++) {
            const struct axis_class *rows = &s->rows.classes[i];
            g->row_class = rows;
            g->first = m;
            g->count = least(plan->group_phases, rows->phase_count - m);
            g->products = calloc((size_t)s->columns.count, sizeof *g->products);
            if (!g->products)
                return false;
            int64_t phase = 0;
            for (int64_t j = 0; j < s->columns.count; j++) {
                g->products[j].column_class = &s->columns.classes[j];
                g->products[j].phase = phase;
                phase += s->columns.classes[j].phase_count;
                if (!product_init(plan, g, &g->products[j], weight))
                    return false;
            }
        }
    return true;
}

static bool conv_bias_init(struct tile_plan *plan, const struct params *params)
{
    const int64_t channels = plan->subpixel.problem.out_channels;
    const int64_t rows = plan->group_phases * plan->column_count;
    plan->conv_bias = calloc((size_t)(rows * channels), sizeof *plan->conv_bias);
    for (int64_t i = 0; plan->conv_bias && plan->epilogue.conv_bias && i < rows; i++)
        memcpy(plan->conv_bias + i * channels, params->conv_bias,
               (size_t)channels * sizeof *plan->conv_bias);
    return plan->conv_bias != NULL;
}

static void geometry_init(struct tile_plan *plan)
{
    const struct subpixel *s = &plan->subpixel;
    const struct problem *p = &s->problem;
    const struct axis_extent rows = axis_extent(&s->rows), columns = axis_extent(&s->columns);
    plan->first_a = rows.first;
    plan->end_a = rows.end;
    plan->first_b = columns.first;
    plan->end_b = columns.end;
    plan->first_row = rows.origin;
    plan->first_column = columns.origin;
    plan->reach = rows.reach;
    plan->pitch = axis_pitch(&columns, p->width);
    plan->image_rows = axis_pitch(&rows, p->height);

    int64_t most_phases = 1;
    for (int64_t i = 0; i < s->rows.count; i++)
        most_phases = most(most_phases, s->rows.classes[i].phase_count);
    const int64_t row_logits = plan->column_count * p->out_channels; /* of a row phase */
    plan->group_phases = most(1, least(most_phases, BLOCK_LOGITS / (row_logits * BLOCK_ENOUGH)));
    const int64_t fitting = BLOCK_LOGITS / (row_logits * plan->group_phases) / BLOCK_STEP;
    plan->block = most(BLOCK_STEP, least(BLOCK_MOST, fitting * BLOCK_STEP));

    const int64_t image = plan->image_rows * plan->pitch * p->in_channels;
    if (2 * image <= REGION_ELEMENTS) {
        plan->region_rows = plan->end_a - plan->first_a;
        plan->region_images = most(1, least(p->batch, REGION_ELEMENTS / image));
        plan->padded_rows = most(plan->region_images * plan->image_rows +
                                     most(0, rows.end - rows.origin - plan->image_rows),
                                 plan->region_rows + plan->reach);
    } else {
        plan->region_images = 1;
        plan->region_rows =
            most(1, least(plan->end_a - plan->first_a,
                          REGION_ELEMENTS / (plan->pitch * p->in_channels) - rows.reach));
        plan->padded_rows = plan->region_rows + plan->reach;
    }
    /* The last row's right end may reach behind it. An odd number of cache lines from one channel
     * to the next spreads the channels over the sets of L1. */
    const int64_t behind = most(0, plan->end_b - plan->first_column - plan->pitch);
    /* A class that begins later than the first position may reach before the image there: such
     * positions are computed with the others and never read. */
    const int64_t before = most(0, columns.reach - (plan->first_b - plan->first_column));
    plan->before = (before + STRIP_PITCH - 1) / STRIP_PITCH * STRIP_PITCH;
    plan->plane = ((plan->padded_rows * plan->pitch + behind + 15) / 16 | 1) * 16;
}

enum status tile_plan_init(struct tile_plan *plan, const struct problem *p,
                           const struct params *params, struct error *error)
{
    *plan =
        (struct tile_plan){.kernels = strip_kernels_get(),
                           .by_definition = !weights_are_finite(p, params->weight),
                           .epilogue = {.channels = p->out_channels,
                                        .conv_bias = p->has_conv_bias ? params->conv_bias : NULL,
                                        .bias = params->bias,
                                        .bias_step = p->bias_count == 1 ? 0 : 1,
                                        .scaling_factor = p->scaling_factor}};
    const enum status status = subpixel_init(&plan->subpixel, p, BLOCK_LOGITS, error);
    if (status != STATUS_OK)
        return status;
    if (!columns_init(plan))
        goto out_of_memory;
    geometry_init(plan);
    if (!groups_init(plan, params->weight) || !conv_bias_init(plan, params))
        goto out_of_memory;
    return STATUS_OK;

out_of_memory:
    tile_plan_release(plan);
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for packed weights");
}

void tile_plan_release(struct tile_plan *plan)
{
    for (int64_t i = 0; plan->groups && i < plan->group_count; i++) {
        struct plan_product *products = plan->groups[i].products;
        for (int64_t j = 0; products && j < plan->subpixel.columns.count; j++) {
            free(products[j].weights);
            free(products[j].offsets);
        }
        free(products);
    }
    free(plan->groups);
    free(plan->columns);
    free(plan->conv_bias);
    subpixel_release(&plan->subpixel);
    *plan = (struct tile_plan){0};
}
