#include "ref/model_gemm.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "ref/conv_transpose_gemm.h"
#include "ref/strip_kernels.h"

/* Logits held at a time by a thread: 512 KiB, half of a Zen 4 core's L2. */
#define LOGIT_BUDGET ((int64_t)128 << 10)

struct model_gemm {
    struct problem problem;
    struct params params;
    struct subpixel subpixel;
    struct packed_weights_f32 packed;
    bool by_definition;
    int64_t pitch;
};

void model_gemm_free(struct model_gemm *m)
{
    if (!m)
        return;
    packed_weights_release_f32(&m->packed);
    subpixel_release(&m->subpixel);
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
    openblas_set_num_threads(1);
    enum status status = subpixel_init(&m->subpixel, problem, LOGIT_BUDGET, error);
    m->by_definition = !weights_are_finite(problem, params->weight);
    if (status == STATUS_OK && !m->by_definition)
        status = pack_weights_f32(&m->subpixel, params->weight, false, &m->packed, error);
    if (status != STATUS_OK) {
        model_gemm_free(m);
        return status;
    }
    m->pitch = (m->subpixel.max_positions + STRIP_PITCH - 1) / STRIP_PITCH * STRIP_PITCH;
    *model = m;
    return STATUS_OK;
}

/* Copies the phase's own part of a strip of finished outputs to their places in the image. */
static void scatter(const struct problem *p, const struct strip *strip, int64_t phase,
                    int64_t pitch, const float *c, float *y)
{
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const struct axis_phase *row = &rows->phases[phase / columns->phase_count];
    const struct axis_phase *column = &columns->phases[phase % columns->phase_count];
    const int64_t out_h = problem_output_h(p), out_w = problem_output_w(p);
    const int64_t b0 = strip->b > column->first ? strip->b : column->first;
    const int64_t b1 =
        strip->b + strip->columns < column->end ? strip->b + strip->columns : column->end;
    for (int64_t i = 0; i < strip->rows; i++) {
        const int64_t a = strip->a + i;
        if (a < row->first || a >= row->end)
            continue;
        const int64_t oh = a * p->stride_h + row->offset;
        for (int64_t ch = 0; ch < p->out_channels; ch++) {
            const float *from = c + ch * pitch + i * strip->columns - strip->b;
            float *to = y + (ch * out_h + oh) * out_w + column->offset;
            for (int64_t b = b0; b < b1; b++)
                to[b * p->stride_w] = from[b];
        }
    }
}

enum status model_gemm_run(struct model_gemm *m, const float *x, float *y, int64_t images,
                           struct model_gemm_stages *stages, struct error *error)
{
    const struct problem *p = &m->problem;
    const struct subpixel *s = &m->subpixel;
    const struct strip_kernels *kernels = strip_kernels_get();
    const struct epilogue epilogue = {.channels = p->out_channels,
                                      .conv_bias = p->has_conv_bias ? m->params.conv_bias : NULL,
                                      .bias = m->params.bias,
                                      .bias_step = p->bias_count == 1 ? 0 : 1,
                                      .scaling_factor = p->scaling_factor};
    const int64_t in_image = problem_input_image(p), out_image = problem_output_image(p);
    const size_t panel_bytes = (size_t)gemm_panel_size(s, m->pitch) * sizeof(float) + 64;
    const size_t c_bytes =
        (size_t)(s->phases_at_once * p->out_channels * m->pitch) * sizeof(float) + 64;
    double conv_s = 0.0, epilogue_s = 0.0;
    bool out_of_memory = false;
    int threads = 1;
#pragma omp parallel reduction(+ : conv_s, epilogue_s)
    {
        float *panel = aligned_alloc(64, (panel_bytes + 63) / 64 * 64);
        float *c = aligned_alloc(64, (c_bytes + 63) / 64 * 64);
        if (!panel || !c) {
#pragma omp atomic write
            out_of_memory = true;
        } else {
            /* Vector kernels read whole vectors: the slack must hold numbers. */
            memset(c, 0, c_bytes);
        }
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < images * s->strip_count; item++) {
            if (!panel || !c)
                continue;
            const int64_t image = item / s->strip_count;
            const struct strip *strip = &s->strips[item % s->strip_count];
            const int64_t all = strip->row_class->phase_count * strip->column_class->phase_count;
            for (int64_t phase = 0; phase < all; phase += s->phases_at_once) {
                const int64_t count =
                    all - phase < s->phases_at_once ? all - phase : s->phases_at_once;
                const double start = omp_get_wtime();
                conv_transpose_strip_f32(s, m->by_definition ? NULL : &m->packed, m->params.weight,
                                         false, x + image * in_image, strip, phase, count, m->pitch,
                                         panel, c);
                const double middle = omp_get_wtime();
                for (int64_t i = 0; i < count; i++) {
                    float *logits = c + i * p->out_channels * m->pitch;
                    kernels->epilogue_f32(&epilogue, logits, m->pitch,
                                          strip->rows * strip->columns);
                    scatter(p, strip, phase + i, m->pitch, logits, y + image * out_image);
                }
                conv_s += middle - start;
                epilogue_s += omp_get_wtime() - middle;
            }
        }
        free(panel);
        free(c);
    }
    if (stages)
        *stages = (struct model_gemm_stages){conv_s / threads, epilogue_s / threads};
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the strips of a thread");
    return STATUS_OK;
}
