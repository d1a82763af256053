#include "ref/model_gemm.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "ref/batch_lanes.h"
#include "ref/tile_plan.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/* Cache lines that a row of y shares with its neighbours must be read before they are written: they
 * are asked for so many channels before. */
#define CHANNELS_AHEAD 8

/* Regions for each thread, so that the last ones to finish don't wait long, while they have so many
 * blocks. */
#define REGIONS_EACH 4
#define REGION_BLOCKS 3

struct model_gemm {
    struct problem problem;
    struct params params;
    struct tile_plan plan;
    struct batch_lanes *lanes; /* NULL where blocks of positions are the better form */
};

static int64_t parts_of(int64_t n, int64_t each)
{
    return (n + each - 1) / each;
}

/* Rows [a, end_a) of images [image, image + images). */
struct region {
    int64_t image, images, a, end_a;
    int64_t origin_row; /* input row that the padded region begins with */
};

/* A thread's buffers. */
struct scratch {
    float *padded_block;                 /* zeros, plan->before of them, and `padded` */
    float *padded;                       /* [in_channels][plane] */
    float *c;                            /* [group phases * columns * Cout][block] */
    float *reciprocal;                   /* [group phases * columns][block] */
    float *line;                         /* [block][columns], one channel of a row phase */
    const float **c_of, **reciprocal_of; /* [columns] */
    int64_t *place;                      /* [columns] */
};

void model_gemm_free(struct model_gemm *m)
{
    if (!m)
        return;
    batch_lanes_free(m->lanes);
    tile_plan_release(&m->plan);
    free(m);
}

enum status model_gemm_create(struct model_gemm **model, const struct problem *problem,
                              const struct params *params, struct error *error)
{
    *model = NULL;
    struct model_gemm *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    m->problem = *problem;
    m->params = *params;
    enum status status = tile_plan_init(&m->plan, problem, params, error);
    if (status == STATUS_OK && batch_lanes_pays(&m->plan))
        status = batch_lanes_create(&m->lanes, &m->plan, params->weight, error);
    if (status != STATUS_OK) {
        model_gemm_free(m);
        return status;
    }
    *model = m;
    return STATUS_OK;
}

static void scratch_free(struct scratch *s)
{
    free(s->padded_block);
    free(s->c);
    free(s->reciprocal);
    free(s->line);
    free(s->c_of);
    free(s->reciprocal_of);
    free(s->place);
}

static float *floats(int64_t n)
{
    const size_t bytes = ((size_t)n * sizeof(float) + 64 * sizeof(float) + 63) / 64 * 64;
    float *p = aligned_alloc(64, bytes);
    if (p)
        memset(p, 0, bytes); /* whole vectors are read: the slack must hold numbers */
    return p;
}

static bool scratch_init(struct scratch *s, const struct tile_plan *plan)
{
    const struct problem *p = &plan->subpixel.problem;
    const int64_t n = plan->column_count, phases = plan->group_phases * n;
    s->padded_block = floats(plan->before + p->in_channels * plan->plane);
    s->padded = s->padded_block ? s->padded_block + plan->before : NULL;
    s->c = floats(phases * p->out_channels * plan->block);
    s->reciprocal = floats(phases * plan->block);
    s->line = floats(plan->block * n);
    s->c_of = calloc((size_t)n, sizeof *s->c_of);
    s->reciprocal_of = calloc((size_t)n, sizeof *s->reciprocal_of);
    s->place = calloc((size_t)n, sizeof *s->place);
    for (int64_t j = 0; s->place && j < n; j++)
        s->place[j] = plan->columns[j].place;
    return s->padded && s->c && s->reciprocal && s->line && s->c_of && s->reciprocal_of && s->place;
}

/* Copies the part of x that a region reads, with its zeros. */
static void pad(const struct tile_plan *plan, const struct region *r, const float *x, float *padded)
{
    const struct problem *p = &plan->subpixel.problem;
    const int64_t pitch = plan->pitch, origin = plan->first_column;
    const int64_t left = origin < 0 ? (-origin < pitch ? -origin : pitch) : 0;
    const int64_t from = origin > 0 ? origin : 0;
    int64_t count = p->width - from;
    count = count < 0 ? 0 : count > pitch - left ? pitch - left : count;
    for (int64_t ic = 0; ic < p->in_channels; ic++) {
        float *to = padded + ic * plan->plane;
        float *const end = to + plan->plane;
        for (int64_t row = 0; to + pitch <= end && row < plan->padded_rows; row++, to += pitch) {
            const int64_t n = r->images == 1 ? 0 : row / plan->image_rows;
            const int64_t ih = r->origin_row + row - n * plan->image_rows;
            if (n >= r->images || ih < 0 || ih >= p->height || count == 0) {
                memset(to, 0, (size_t)pitch * sizeof *to);
                continue;
            }
            const float *in =
                x + (((r->image + n) * p->in_channels + ic) * p->height + ih) * p->width + from;
            for (int64_t i = 0; i < left; i++)
                to[i] = 0.0f;
            memcpy(to + left, in, (size_t)count * sizeof *to);
            for (int64_t i = left + count; i < pitch; i++)
                to[i] = 0.0f;
        }
        memset(to, 0, (size_t)(end - to) * sizeof *to);
    }
}

/* A block: positions [q, q + positions) of a row group in a region, counted from the group's first
 * row there. */
struct block {
    const struct row_group *group;
    const struct region *region;
    int64_t first_a; /* the group's, in the region */
    int64_t q, positions;
};

/* Image, a and b of position q. */
static void position_of(const struct tile_plan *plan, const struct block *b, int64_t q,
                        int64_t *image, int64_t *row, int64_t *column)
{
    const int64_t flat_row = q / plan->pitch;
    const int64_t n = b->region->images == 1 ? 0 : flat_row / plan->image_rows;
    *image = b->region->image + n;
    *row = b->first_a + flat_row - n * plan->image_rows;
    *column = plan->first_b + q % plan->pitch;
}

/* The definition, for weights that are not finite: 0 * Inf must not come from the padding. */
static void logits_by_definition(const struct model_gemm *m, const struct block *b, const float *x,
                                 const struct plan_product *product, float *c)
{
    const struct tile_plan *plan = &m->plan;
    const struct problem *p = &m->problem;
    const struct axis_class *rows = b->group->row_class, *columns = product->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    for (int64_t at = 0; at < b->group->count * columns->phase_count * p->out_channels; at++) {
        const int64_t phase = at / p->out_channels, oc = at % p->out_channels;
        const struct axis_phase *row =
            &rows->phases[b->group->first + phase / columns->phase_count];
        const struct axis_phase *column = &columns->phases[phase % columns->phase_count];
        for (int64_t i = 0; i < b->positions; i++) {
            int64_t image, a, bb;
            position_of(plan, b, b->q + i, &image, &a, &bb);
            float sum = 0.0f;
            for (int64_t t = 0; t < rows->tap_count * columns->tap_count; t++) {
                const int64_t th = t / columns->tap_count, tw = t % columns->tap_count;
                const int64_t ih = a + rows->distances[th], iw = bb + columns->distances[tw];
                if (ih < 0 || ih >= p->height || iw < 0 || iw >= p->width)
                    continue;
                for (int64_t ic = 0; ic < in_per_group; ic++) {
                    const int64_t in = oc / out_per_group * in_per_group + ic;
                    sum +=
                        x[((image * p->in_channels + in) * p->height + ih) * p->width + iw] *
                        m->params.weight[((in * out_per_group + oc % out_per_group) * p->kernel_h +
                                          row->taps[th]) *
                                             p->kernel_w +
                                         column->taps[tw]];
                }
            }
            c[at * plan->block + i] = sum + plan->conv_bias[oc];
        }
    }
}

/* Logits of a block, with conv_bias. */
static void logits(const struct model_gemm *m, const struct block *b, const float *x,
                   const struct scratch *s)
{
    const struct tile_plan *plan = &m->plan;
    const struct problem *p = &m->problem;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    const float *start = s->padded + (b->first_a - b->region->origin_row) * plan->pitch +
                         plan->first_b - plan->first_column + b->q;
    for (int64_t j = 0; j < plan->subpixel.columns.count; j++) {
        const struct plan_product *product = &b->group->products[j];
        float *c = s->c + product->phase * b->group->count * p->out_channels * plan->block;
        if (plan->by_definition) {
            logits_by_definition(m, b, x, product, c);
            continue;
        }
        for (int64_t group = 0; group < p->groups; group++)
            for (int64_t part = 0; part < product->parts; part++) {
                const int64_t row = part * p->out_channels + group * out_per_group;
                const struct tile_product_f32 t = {.weights = product->weights +
                                                              (group * product->parts + part) *
                                                                  product->rows * product->k,
                                                   .rows = product->rows,
                                                   .k = product->k,
                                                   .depth = product->k,
                                                   .x = start + group * in_per_group * plan->plane,
                                                   .offsets = product->offsets,
                                                   .c = c + row * plan->block,
                                                   .pitch = plan->block,
                                                   .row_step = product->row_step,
                                                   .positions = b->positions,
                                                   .initial = plan->conv_bias + row};
                plan->kernels->product_f32(&t);
            }
    }
}

/* Logits of one phase in C. */
static float *phase_logits(const struct tile_plan *plan, const struct row_group *g,
                           const struct scratch *s, int64_t row_phase, int64_t column)
{
    const struct column_phase *phase = &plan->columns[column];
    const int64_t base = (column - phase->phase) * g->count; /* of the column class */
    return s->c + (base + row_phase * phase->column_class->phase_count + phase->phase) *
                      plan->epilogue.channels * plan->block;
}

/* One channel's finished outputs of a row phase, from the line to their places in y. */
static void store_line(const struct tile_plan *plan, const struct block *b,
                       const struct axis_phase *row, const float *line, int64_t channel, float *y)
{
    const struct problem *p = &plan->subpixel.problem;
    const int64_t stride = p->stride_w, n = plan->column_count;
    const int64_t out_h = problem_output_h(p), out_w = problem_output_w(p);
    for (int64_t q = b->q; q < b->q + b->positions;) {
        int64_t image, a, first;
        position_of(plan, b, q, &image, &a, &first);
        int64_t end = first + b->q + b->positions - q;
        const int64_t next = q + plan->pitch - q % plan->pitch;
        end = end < plan->end_b ? end : plan->end_b;
        const float *start = line + (q - b->q) * n;
        q = next;
        if (a < row->first || a >= row->end)
            continue;
        float *to =
            y +
            ((image * p->out_channels + channel) * out_h + a * p->stride_h + row->offset) * out_w;
        if (plan->columns_contiguous) {
            /* The places are `low` behind the stride's multiples, and n is the stride. */
            const int64_t low = plan->columns[0].offset - plan->columns[0].place;
            const float *from = start - (stride * first + low);
            int64_t left = stride * first + low, right = stride * end + low;
            left = left > 0 ? left : 0;
            right = right < out_w ? right : out_w;
            if (left >= right)
                continue;
            const float *ahead = to + CHANNELS_AHEAD * out_h * out_w;
            __builtin_prefetch(ahead + left, 1);
            __builtin_prefetch(ahead + right - 1, 1);
            plan->kernels->stream_f32(to + left, from + left, right - left);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            const struct column_phase *phase = &plan->columns[j];
            const struct axis_phase *column = &phase->column_class->phases[phase->phase];
            const int64_t b0 = first > column->first ? first : column->first;
            const int64_t b1 = end < column->end ? end : column->end;
            const float *in = start + (b0 - first) * n + phase->place;
            float *out = to + stride * b0 + column->offset;
            for (int64_t i = 0; i < b1 - b0; i++) /* one, where n is not the stride */
                out[i * stride] = in[i * stride];
        }
    }
}

/* Logits -> outputs in y. */
static void finish(const struct tile_plan *plan, const struct block *b, const struct scratch *s,
                   float *y)
{
    const int64_t n = plan->column_count;
    for (int64_t m = 0; m < b->group->count; m++) {
        const struct axis_phase *row = &b->group->row_class->phases[b->group->first + m];
        for (int64_t j = 0; j < n; j++) {
            float *c = phase_logits(plan, b->group, s, m, j);
            float *reciprocal = s->reciprocal + j * plan->block;
            plan->kernels->softmax_f32(plan->epilogue.channels, c, plan->block, b->positions,
                                       reciprocal);
            s->c_of[j] = c;
            s->reciprocal_of[j] = reciprocal;
        }
        struct sigmoid_row line = {n,        n,      b->positions, s->c_of, s->reciprocal_of,
                                   s->place, s->line};
        for (int64_t channel = 0; channel < plan->epilogue.channels; channel++) {
            plan->kernels->sigmoid_f32(&plan->epilogue, channel, &line);
            store_line(plan, b, row, s->line, channel, y);
            for (int64_t j = 0; j < n; j++)
                s->c_of[j] += plan->block;
        }
    }
}

/* Streaming stores are visible to other threads behind a fence only. */
static void stream_end(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

static void run_region(const struct model_gemm *m, const struct region *r, const float *x, float *y,
                       const struct scratch *s, struct model_gemm_stages *stages)
{
    const struct tile_plan *plan = &m->plan;
    double before = omp_get_wtime();
    if (!plan->by_definition)
        pad(plan, r, x, s->padded);
    for (int64_t i = 0; i < plan->group_count; i++) {
        const struct row_group *g = &plan->groups[i];
        const int64_t a = r->a > g->row_class->first ? r->a : g->row_class->first;
        const int64_t end = r->end_a < g->row_class->end ? r->end_a : g->row_class->end;
        if (a >= end)
            continue;
        const int64_t rows = (r->images - 1) * plan->image_rows + end - a;
        const int64_t positions = (rows - 1) * plan->pitch + plan->end_b - plan->first_b;
        const int64_t blocks = parts_of(positions, plan->block);
        const int64_t each =
            (parts_of(positions, blocks) + STRIP_PITCH - 1) / STRIP_PITCH * STRIP_PITCH;
        for (int64_t q = 0; q < positions; q += each) {
            const int64_t left = positions - q;
            const struct block b = {g, r, a, q, left < each ? left : each};
            logits(m, &b, x, s);
            const double middle = omp_get_wtime();
            finish(plan, &b, s, y);
            const double after = omp_get_wtime();
            stages->conv_s += middle - before;
            stages->epilogue_s += after - middle;
            before = after;
        }
    }
}

/* How the images are cut in regions, none larger than the plan's: every thread gets several while
 * they hold enough blocks, and all threads get one while there are rows. */
struct cut {
    int64_t images, rows; /* of a region */
    int64_t across, down; /* regions: image groups, and parts of an image */
};

static struct cut cut_images(const struct tile_plan *plan, int64_t images, int threads)
{
    const int64_t height = plan->end_a - plan->first_a, wanted = REGIONS_EACH * (int64_t)threads;
    struct cut c = {.images = plan->region_images, .rows = plan->region_rows};
    while (c.images > 1 && parts_of(images, c.images) < wanted)
        c.images = (c.images + 1) / 2;
    c.across = parts_of(images, c.images);
    c.down = parts_of(height, c.rows);
    if (c.images == 1 && c.across > 0 && c.across * c.down < wanted) {
        const int64_t enough = height * plan->pitch / (REGION_BLOCKS * plan->block);
        int64_t down = parts_of(wanted, c.across);
        down = down < enough ? down : enough;
        down = down * c.across < threads ? parts_of(threads, c.across) : down;
        down = down < c.down ? c.down : down;
        c.down = down < height ? down : height;
    }
    c.rows = parts_of(height, c.down);
    c.down = parts_of(height, c.rows);
    return c;
}

enum status model_gemm_run(struct model_gemm *m, const float *x, float *y, int64_t images,
                           struct model_gemm_stages *stages, struct error *error)
{
    if (m->lanes)
        return batch_lanes_run(m->lanes, x, y, images, stages, error);
    const struct tile_plan *plan = &m->plan;
    const struct cut cut = cut_images(plan, images, omp_get_max_threads());
    double conv_s = 0.0, epilogue_s = 0.0;
    bool out_of_memory = false;
    int threads = 1;
#pragma omp parallel reduction(+ : conv_s, epilogue_s)
    {
        struct scratch s = {0};
        struct model_gemm_stages spent = {0};
        const bool ready = scratch_init(&s, plan);
        if (!ready) {
#pragma omp atomic write
            out_of_memory = true;
        }
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < cut.across * cut.down; item++) {
            if (!ready)
                continue;
            struct region r = {.image = item / cut.down * cut.images,
                               .images = cut.images,
                               .a = plan->first_a + item % cut.down * cut.rows};
            r.images = images - r.image < r.images ? images - r.image : r.images;
            r.end_a = r.a + cut.rows < plan->end_a ? r.a + cut.rows : plan->end_a;
            r.origin_row = cut.images > 1 ? plan->first_row : r.a - plan->reach;
            run_region(m, &r, x, y, &s, &spent);
        }
        stream_end();
        conv_s += spent.conv_s;
        epilogue_s += spent.epilogue_s;
        scratch_free(&s);
    }
    if (stages)
        *stages = (struct model_gemm_stages){conv_s / threads, epilogue_s / threads};
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the buffers of a thread");
    return STATUS_OK;
}
