#include "ref/oracle.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "ref/conv_transpose_gemm.h"

/* Logits of a thread's strip: with probabilities, expected values and magnitudes 28 bytes each. */
#define LOGIT_BUDGET ((int64_t)128 << 10)

struct oracle {
    struct problem problem;
    struct params params;
    struct subpixel subpixel;
    struct packed_weights weights;
    struct epilogue epilogue;
    bool by_definition;
    int64_t pitch;
};

void oracle_free(struct oracle *o)
{
    if (!o)
        return;
    packed_weights_release(&o->weights);
    subpixel_release(&o->subpixel);
    free(o);
}

enum status oracle_create(struct oracle **oracle, const struct problem *p,
                          const struct params *params, struct error *error)
{
    *oracle = NULL;
    struct oracle *o = calloc(1, sizeof *o);
    if (!o)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    o->problem = *p;
    o->params = *params;
    o->epilogue = (struct epilogue){.channels = p->out_channels,
                                    .conv_bias = p->has_conv_bias ? params->conv_bias : NULL,
                                    .bias = params->bias,
                                    .bias_step = p->bias_count == 1 ? 0 : 1,
                                    .scaling_factor = p->scaling_factor};
    enum status status = subpixel_init(&o->subpixel, p, LOGIT_BUDGET, error);
    o->by_definition = !weights_are_finite(p, params->weight);
    if (status == STATUS_OK && !o->by_definition)
        status = pack_weights(&o->subpixel, params->weight, &o->weights, error);
    if (status != STATUS_OK) {
        oracle_free(o);
        return status;
    }
    /* Odd, so that the rows of a panel spread over the sets of L1. */
    o->pitch = ((o->subpixel.max_positions + STRIP_PITCH - 1) / STRIP_PITCH | 1) * STRIP_PITCH;
    *oracle = o;
    return STATUS_OK;
}

const struct epilogue *oracle_epilogue(const struct oracle *o)
{
    return &o->epilogue;
}

int64_t oracle_pitch(const struct oracle *o)
{
    return o->pitch;
}

/* A thread's buffers, in one block. */
struct scratch {
    void *block;
    struct gemm_scratch gemm;
    double *logit, *probability, *expected, *maximum, *log_sum;
    float *magnitude;
};

static bool scratch_init(struct scratch *s, const struct oracle *o)
{
    const size_t panel = (size_t)gemm_panel_size(&o->subpixel, o->pitch);
    const size_t c = (size_t)(o->subpixel.phases_at_once * o->problem.out_channels * o->pitch);
    const size_t one = (size_t)(o->problem.out_channels * o->pitch), row = (size_t)o->pitch;
    struct {
        void **to;
        size_t bytes;
    } parts[] = {
        {(void **)&s->gemm.panel, panel * sizeof *s->gemm.panel},
        {(void **)&s->gemm.pairs, panel * sizeof *s->gemm.pairs},
        {(void **)&s->gemm.sums, one * sizeof *s->gemm.sums},
        {(void **)&s->gemm.step, row * sizeof *s->gemm.step},
        {(void **)&s->gemm.inverse, row * sizeof *s->gemm.inverse},
        {(void **)&s->logit, c * sizeof(double)},
        {(void **)&s->probability, one * sizeof(double)},
        {(void **)&s->expected, one * sizeof(double)},
        {(void **)&s->maximum, row * sizeof(double)},
        {(void **)&s->log_sum, row * sizeof(double)},
        {(void **)&s->magnitude, c * sizeof(float)},
    };
    size_t total = 64;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += (parts[i].bytes + 63) / 64 * 64;
    s->block = aligned_alloc(64, total);
    if (!s->block)
        return false;
    memset(s->block, 0, total);
    char *at = s->block;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = at;
        at += (parts[i].bytes + 63) / 64 * 64;
    }
    return true;
}

/* Visits one phase of a strip, cut to the outputs that the phase has. */
static bool visit_phase(const struct oracle *o, const struct strip *strip, int64_t phase,
                        const struct oracle_arrays *arrays, int64_t image, oracle_visit visit,
                        void *context)
{
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const struct axis_phase *row = &rows->phases[phase / columns->phase_count];
    const struct axis_phase *column = &columns->phases[phase % columns->phase_count];
    const int64_t a0 = strip->a > row->first ? strip->a : row->first;
    const int64_t b0 = strip->b > column->first ? strip->b : column->first;
    const int64_t a1 = strip->a + strip->rows < row->end ? strip->a + strip->rows : row->end;
    const int64_t b1 =
        strip->b + strip->columns < column->end ? strip->b + strip->columns : column->end;
    if (a0 >= a1 || b0 >= b1)
        return true;
    const struct oracle_strip visited = {.arrays = arrays,
                                         .image = image,
                                         .first_position =
                                             (a0 - strip->a) * strip->columns + b0 - strip->b,
                                         .rows = a1 - a0,
                                         .columns = b1 - b0,
                                         .pitch_columns = strip->columns,
                                         .oh = a0 * o->problem.stride_h + row->offset,
                                         .ow = b0 * o->problem.stride_w + column->offset,
                                         .step_h = o->problem.stride_h,
                                         .step_w = o->problem.stride_w};
    return visit(context, omp_get_thread_num(), &visited);
}

enum status oracle_run(struct oracle *o, const float *x, int64_t first, int64_t count,
                       oracle_visit visit, void *context, struct error *error)
{
    const struct problem *p = &o->problem;
    const struct subpixel *s = &o->subpixel;
    const struct strip_kernels *kernels = strip_kernels_get();
    const int64_t in_image = problem_input_image(p);
    bool out_of_memory = false, stop = false;
#pragma omp parallel
    {
        struct scratch t;
        const bool ready = scratch_init(&t, o);
        if (!ready) {
#pragma omp atomic write
            out_of_memory = true;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < count * s->strip_count; item++) {
            bool stopped;
#pragma omp atomic read
            stopped = stop;
            if (!ready || stopped)
                continue;
            const float *image = x + item / s->strip_count * in_image;
            const struct strip *strip = &s->strips[item % s->strip_count];
            const int64_t all = strip->row_class->phase_count * strip->column_class->phase_count;
            for (int64_t phase = 0; phase < all && !stopped; phase += s->phases_at_once) {
                const int64_t n = all - phase < s->phases_at_once ? all - phase : s->phases_at_once;
                conv_transpose_strip(s, o->by_definition ? NULL : &o->weights, o->params.weight,
                                     o->epilogue.conv_bias, image, strip, phase, n, o->pitch,
                                     &t.gemm, t.logit, t.magnitude);
                for (int64_t i = 0; i < n && !stopped; i++) {
                    const struct oracle_arrays arrays = {
                        .channels = p->out_channels,
                        .positions = strip->rows * strip->columns,
                        .pitch = o->pitch,
                        .logit = t.logit + i * p->out_channels * o->pitch,
                        .magnitude = t.magnitude + i * p->out_channels * o->pitch,
                        .probability = t.probability,
                        .expected = t.expected,
                        .maximum = t.maximum,
                        .log_sum = t.log_sum};
                    kernels->oracle_f64(&o->epilogue, &arrays);
                    if (!visit_phase(o, strip, phase + i, &arrays, first + item / s->strip_count,
                                     visit, context)) {
                        stopped = true;
#pragma omp atomic write
                        stop = true;
                    }
                }
            }
        }
        if (ready)
            free(t.block);
    }
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the oracle's strips");
    return STATUS_OK;
}

struct expected_context {
    const struct problem *problem;
    int64_t first;
    double *y;
};

static bool store_expected(void *context, int thread, const struct oracle_strip *strip)
{
    (void)thread;
    const struct expected_context *e = context;
    const struct oracle_arrays *a = strip->arrays;
    const int64_t out_h = problem_output_h(e->problem), out_w = problem_output_w(e->problem);
    double *image = e->y + (strip->image - e->first) * problem_output_image(e->problem);
    for (int64_t c = 0; c < a->channels; c++)
        for (int64_t i = 0; i < strip->rows; i++) {
            const double *from =
                a->expected + c * a->pitch + strip->first_position + i * strip->pitch_columns;
            double *to = image + (c * out_h + strip->oh + i * strip->step_h) * out_w + strip->ow;
            for (int64_t j = 0; j < strip->columns; j++)
                to[j * strip->step_w] = from[j];
        }
    return true;
}

enum status oracle_expected(struct oracle *o, const float *x, int64_t first, int64_t count,
                            double *y, struct error *error)
{
    struct expected_context context = {&o->problem, first, y};
    return oracle_run(o, x, first, count, store_expected, &context, error);
}
