#include "ref/model_blas.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/blas_threads.h"
#include "ref/conv_transpose_gemm.h"
#include "ref/subpixel.h"

/* Logits that a thread holds at a time: 512 KiB, near a core's L2. */
#define LOGIT_BUDGET ((int64_t)128 << 10)

struct model_blas {
    struct problem problem;
    struct params params;
    struct subpixel subpixel;
    float **weights; /* for each class: [group][phase][Cout / groups][K] */
    int64_t class_count;
};

static int64_t taps_of(const struct strip *s)
{
    return s->row_class->tap_count * s->column_class->tap_count;
}

static int64_t phases_of(const struct strip *s)
{
    return s->row_class->phase_count * s->column_class->phase_count;
}

void model_blas_free(struct model_blas *m)
{
    if (!m)
        return;
    for (int64_t i = 0; m->weights && i < m->class_count; i++)
        free(m->weights[i]);
    free(m->weights);
    subpixel_release(&m->subpixel);
    free(m);
}

/* The matrix of one class: row (group, phase, oc), column (tap, ic). */
static float *pack_class(const struct problem *p, const struct axis_class *rows,
                         const struct axis_class *columns, const float *weight)
{
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t phases = rows->phase_count * columns->phase_count;
    const int64_t taps = rows->tap_count * columns->tap_count;
    float *matrix = malloc((size_t)(p->out_channels * phases * taps * in + 1) * sizeof *matrix);
    float *to = matrix;
    for (int64_t group = 0; matrix && group < p->groups; group++)
        for (int64_t phase = 0; phase < phases; phase++)
            for (int64_t oc = 0; oc < out; oc++)
                for (int64_t t = 0; t < taps; t++)
                    for (int64_t ic = 0; ic < in; ic++) {
                        const int64_t kh =
                            rows->phases[phase / columns->phase_count].taps[t / columns->tap_count];
                        const int64_t kw = columns->phases[phase % columns->phase_count]
                                               .taps[t % columns->tap_count];
                        *to++ = weight[(((group * in + ic) * out + oc) * p->kernel_h + kh) *
                                           p->kernel_w +
                                       kw];
                    }
    return matrix;
}

enum status model_blas_create(struct model_blas **model, const struct problem *problem,
                              const struct params *params, struct error *error)
{
    *model = NULL;
    if (!weights_are_finite(problem, params->weight))
        return error_set(error, STATUS_UNSUPPORTED, "a weight is not finite");
    struct model_blas *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    m->problem = *problem;
    m->params = *params;
    blas_set_threads(1);
    enum status status = subpixel_init(&m->subpixel, problem, LOGIT_BUDGET, error);
    if (status == STATUS_OK) {
        m->class_count = m->subpixel.rows.count * m->subpixel.columns.count;
        m->weights = calloc((size_t)m->class_count, sizeof *m->weights);
        bool packed = m->weights != NULL;
        for (int64_t i = 0; packed && i < m->class_count; i++) {
            m->weights[i] = pack_class(
                problem, &m->subpixel.rows.classes[i / m->subpixel.columns.count],
                &m->subpixel.columns.classes[i % m->subpixel.columns.count], params->weight);
            packed = m->weights[i] != NULL;
        }
        if (!packed)
            status = error_set(error, STATUS_ENVIRONMENT, "out of memory for packed weights");
    }
    if (status != STATUS_OK) {
        model_blas_free(m);
        return status;
    }
    *model = m;
    return STATUS_OK;
}

/* B of one group: row (tap, ic), column position; zeros where a tap falls outside the image. */
static void gather_inputs(const struct problem *p, const struct strip *s, const float *x, float *b)
{
    for (int64_t t = 0; t < taps_of(s); t++)
        for (int64_t ic = 0; ic < p->in_channels / p->groups; ic++)
            for (int64_t i = 0; i < s->rows; i++)
                for (int64_t j = 0; j < s->columns; j++) {
                    const int64_t ih =
                        s->a + i + s->row_class->distances[t / s->column_class->tap_count];
                    const int64_t iw =
                        s->b + j + s->column_class->distances[t % s->column_class->tap_count];
                    const bool inside = ih >= 0 && ih < p->height && iw >= 0 && iw < p->width;
                    *b++ = inside ? x[(ic * p->height + ih) * p->width + iw] : 0.0f;
                }
}

/* Logits of phases [first, first + count): c [count][Cout][positions], without conv_bias. */
static void convolve(const struct model_blas *m, const struct strip *s, int64_t first,
                     int64_t count, const float *x, float *b, float *c)
{
    const struct problem *p = &m->problem;
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t k = taps_of(s) * in, positions = s->rows * s->columns;
    if (k == 0) { /* stride > kernel: no tap reaches these outputs */
        memset(c, 0, (size_t)(count * p->out_channels * positions) * sizeof *c);
        return;
    }
    for (int64_t group = 0; group < p->groups; group++) {
        const float *w = m->weights[s->class_index] + group * phases_of(s) * out * k;
        gather_inputs(p, s, x + group * in * p->height * p->width, b);
        for (int64_t phase = 0; phase < count; phase++)
            cblas_sgemm(
                CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)out, (blasint)positions,
                (blasint)k, 1.0f, w + (first + phase) * out * k, (blasint)k, b, (blasint)positions,
                0.0f, c + (phase * p->out_channels + group * out) * positions, (blasint)positions);
    }
}

/* One pixel: z [Cout] `step` apart -> y [Cout] `out_step` apart. */
static void finish_pixel(const struct model_blas *m, float *z, int64_t step, float *y,
                         int64_t out_step)
{
    const struct problem *p = &m->problem;
    float maximum = -INFINITY, sum = 0.0f;
    for (int64_t c = 0; c < p->out_channels; c++) {
        if (p->has_conv_bias)
            z[c * step] += m->params.conv_bias[c];
        maximum = fmaxf(maximum, z[c * step]);
    }
    for (int64_t c = 0; c < p->out_channels; c++) {
        z[c * step] = expf(z[c * step] - maximum);
        sum += z[c * step];
    }
    for (int64_t c = 0; c < p->out_channels; c++) {
        const float probability = z[c * step] / sum;
        const float t =
            p->scaling_factor * (probability + m->params.bias[p->bias_count == 1 ? 0 : c]);
        y[c * out_step] = 1.0f / (1.0f + expf(-t));
    }
}

/* The phase's own part of the strip, to its places in the image. */
static void finish_phase(const struct model_blas *m, const struct strip *s, int64_t phase, float *c,
                         float *y)
{
    const struct problem *p = &m->problem;
    const struct axis_phase *row = &s->row_class->phases[phase / s->column_class->phase_count];
    const struct axis_phase *column =
        &s->column_class->phases[phase % s->column_class->phase_count];
    const int64_t out_h = problem_output_h(p), out_w = problem_output_w(p);
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->columns; j++) {
            const int64_t a = s->a + i, b = s->b + j;
            if (a < row->first || a >= row->end || b < column->first || b >= column->end)
                continue;
            const int64_t oh = a * p->stride_h + row->offset;
            const int64_t ow = b * p->stride_w + column->offset;
            finish_pixel(m, c + i * s->columns + j, s->rows * s->columns, y + oh * out_w + ow,
                         out_h * out_w);
        }
}

enum status model_blas_run(struct model_blas *m, const float *x, float *y, int64_t images,
                           struct error *error)
{
    const struct problem *p = &m->problem;
    const struct subpixel *s = &m->subpixel;
    const int64_t k = s->max_taps * (p->in_channels / p->groups);
    const size_t b_bytes = (size_t)(k * s->max_positions + 1) * sizeof(float);
    const size_t c_bytes =
        (size_t)(s->phases_at_once * p->out_channels * s->max_positions) * sizeof(float);
    bool out_of_memory = false;
#pragma omp parallel
    {
        float *b = malloc(b_bytes), *c = malloc(c_bytes);
        if (!b || !c) {
#pragma omp atomic write
            out_of_memory = true;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < images * s->strip_count; item++) {
            if (!b || !c)
                continue;
            const int64_t image = item / s->strip_count;
            const struct strip *strip = &s->strips[item % s->strip_count];
            for (int64_t first = 0; first < phases_of(strip); first += s->phases_at_once) {
                const int64_t left = phases_of(strip) - first;
                const int64_t count = left < s->phases_at_once ? left : s->phases_at_once;
                convolve(m, strip, first, count, x + image * problem_input_image(p), b, c);
                for (int64_t i = 0; i < count; i++)
                    finish_phase(m, strip, first + i,
                                 c + i * p->out_channels * strip->rows * strip->columns,
                                 y + image * problem_output_image(p));
            }
        }
        free(b);
        free(c);
    }
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the strips of a thread");
    return STATUS_OK;
}
