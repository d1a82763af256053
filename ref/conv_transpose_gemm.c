#include "ref/conv_transpose_gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/strip_kernels.h"

/* For the roundings of a magnitude. */
#define MAGNITUDE_INFLATION (1.0 + 0x1p-10)

bool weights_are_finite(const struct problem *problem, const float *weight)
{
    const int64_t n = problem_weight_count(problem);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(weight[i]))
            return false;
    return true;
}

/* Rows of the panel multiplied at a time: bounds the panel at any Cin, and is long enough that C is
 * read and written seldom. */
int64_t gemm_panel_size(const struct subpixel *s, int64_t pitch)
{
    const int64_t k = s->max_taps * (s->problem.in_channels / s->problem.groups);
    return (k < MAGNITUDE_DEPTH ? k : MAGNITUDE_DEPTH) * pitch;
}

/* ---- weights -----------------------------------------------------------------------------------
 */

/* W of a phase and group, [Cout/groups][k]. */
static void phase_weights(const struct problem *p, const struct axis_class *rows,
                          const struct axis_class *columns, int64_t group, int64_t phase,
                          const float *weight, double *to)
{
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t *kh = rows->phases[phase / columns->phase_count].taps;
    const int64_t *kw = columns->phases[phase % columns->phase_count].taps;
    for (int64_t oc = 0; oc < out; oc++)
        for (int64_t t = 0; t < rows->tap_count * columns->tap_count; t++)
            for (int64_t ic = 0; ic < in; ic++)
                *to++ = (double)weight[(((group * in + ic) * out + oc) * p->kernel_h +
                                        kh[t / columns->tap_count]) *
                                           p->kernel_w +
                                       kw[t % columns->tap_count]];
}

/* |W| of one row in steps, pairs of neighbours in k; returns the step. */
static double row_in_steps(const double *row, int64_t k, int32_t *pairs)
{
    double largest = 0.0;
    for (int64_t l = 0; l < k; l++)
        largest = fmax(largest, fabs(row[l]));
    for (int64_t l = 0; l < k; l++) {
        const double steps = largest > 0.0 ? ceil(fabs(row[l]) * (MAGNITUDE_MOST / largest)) : 0.0;
        const int32_t whole = steps < MAGNITUDE_MOST ? (int32_t)steps : MAGNITUDE_MOST;
        pairs[l / 2] = l % 2 ? pairs[l / 2] + whole * 0x10000 : whole;
    }
    return largest / MAGNITUDE_MOST * MAGNITUDE_INFLATION;
}

/* Everything of one class; its arrays begin at the pointers, which may be NULL where k is 0. */
static void pack_class(const struct problem *p, const struct axis_class *rows,
                       const struct axis_class *columns, const float *weight, double *plain,
                       int32_t *plain_steps, double *weights, int32_t *steps, double *step)
{
    const struct strip_kernels *kernels = strip_kernels_get();
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t k = rows->tap_count * columns->tap_count * in, pairs = (k + 1) / 2;
    for (int64_t group = 0; group < p->groups; group++)
        for (int64_t m = 0; m < rows->phase_count * columns->phase_count; m++) {
            phase_weights(p, rows, columns, group, m, weight, plain);
            for (int64_t oc = 0; oc < out; oc++)
                *step++ = row_in_steps(plain + oc * k, k, plain_steps + oc * pairs);
            kernels->pack_f64(plain, out, k, weights);
            kernels->pack_i16(plain_steps, out, pairs, steps);
            weights += out * k;
            steps += out * pairs;
        }
}

static void *room_for(int64_t n, size_t size)
{
    return calloc((size_t)(n ? n : 1), size);
}

enum status pack_weights(const struct subpixel *s, const float *weight,
                         struct packed_weights *packed, struct error *error)
{
    const struct problem *p = &s->problem;
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t classes = s->rows.count * s->columns.count;
    *packed = (struct packed_weights){.weights_offset = room_for(classes, sizeof(int64_t)),
                                      .steps_offset = room_for(classes, sizeof(int64_t)),
                                      .step_offset = room_for(classes, sizeof(int64_t))};
    double *plain = NULL;
    int32_t *plain_steps = NULL;
    if (!packed->weights_offset || !packed->steps_offset || !packed->step_offset)
        goto out_of_memory;
    int64_t weights = 0, steps = 0, step = 0;
    for (int64_t i = 0; i < classes; i++) {
        const struct axis_class *rows = &s->rows.classes[i / s->columns.count];
        const struct axis_class *columns = &s->columns.classes[i % s->columns.count];
        const int64_t all = rows->phase_count * columns->phase_count * p->out_channels;
        const int64_t k = rows->tap_count * columns->tap_count * in;
        packed->weights_offset[i] = weights;
        packed->steps_offset[i] = steps;
        packed->step_offset[i] = step;
        weights += all * k;
        steps += all * ((k + 1) / 2);
        step += all;
    }
    plain = room_for(out * s->max_taps * in, sizeof *plain);
    plain_steps = room_for(out * ((s->max_taps * in + 1) / 2), sizeof *plain_steps);
    packed->weights = room_for(weights, sizeof *packed->weights);
    packed->steps = room_for(steps, sizeof *packed->steps);
    packed->step = room_for(step, sizeof *packed->step);
    packed->zeros = room_for(out, sizeof *packed->zeros);
    packed->no_steps = room_for(out, sizeof *packed->no_steps);
    if (!plain || !plain_steps || !packed->weights || !packed->steps || !packed->step ||
        !packed->zeros || !packed->no_steps)
        goto out_of_memory;
    for (int64_t i = 0; i < classes; i++)
        pack_class(p, &s->rows.classes[i / s->columns.count],
                   &s->columns.classes[i % s->columns.count], weight, plain, plain_steps,
                   packed->weights + packed->weights_offset[i],
                   packed->steps + packed->steps_offset[i], packed->step + packed->step_offset[i]);
    free(plain);
    free(plain_steps);
    return STATUS_OK;

out_of_memory:
    free(plain);
    free(plain_steps);
    packed_weights_release(packed);
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for packed weights");
}

void packed_weights_release(struct packed_weights *packed)
{
    free(packed->weights);
    free(packed->zeros);
    free(packed->steps);
    free(packed->no_steps);
    free(packed->step);
    free(packed->weights_offset);
    free(packed->steps_offset);
    free(packed->step_offset);
    *packed = (struct packed_weights){0};
}

/* ---- strips ------------------------------------------------------------------------------------
 */

/* One row of the panel: x[channel] at the strip's positions moved by (dh, dw), zeros outside. */
static void panel_row(const struct problem *p, const float *plane, const struct strip *strip,
                      int64_t dh, int64_t dw, double *row)
{
    /* Columns [left, right) of the strip lie inside the image. */
    const int64_t start = strip->b + dw;
    const int64_t left = start < 0 ? (-start < strip->columns ? -start : strip->columns) : 0;
    const int64_t room = p->width - start;
    int64_t right = room < strip->columns ? room : strip->columns;
    right = right < left ? left : right;
    for (int64_t i = 0; i < strip->rows; i++, row += strip->columns) {
        const int64_t ih = strip->a + i + dh;
        if (ih < 0 || ih >= p->height) {
            memset(row, 0, (size_t)strip->columns * sizeof *row);
            continue;
        }
        const float *in = plane + ih * p->width + start;
        for (int64_t j = 0; j < left; j++)
            row[j] = 0.0;
        for (int64_t j = left; j < right; j++)
            row[j] = (double)in[j];
        for (int64_t j = right; j < strip->columns; j++)
            row[j] = 0.0;
    }
}

/* |conv_bias|, of the channel, as a magnitude. */
static float bias_magnitude(const float *conv_bias, int64_t channel)
{
    return conv_bias ? (float)(fabs((double)conv_bias[channel]) * MAGNITUDE_INFLATION) : 0.0f;
}

/* The definition, for weights that are not finite. */
static void strip_by_definition(const struct subpixel *s, const float *weight,
                                const float *conv_bias, const float *x, const struct strip *strip,
                                int64_t first_phase, int64_t phases, int64_t pitch, double *c,
                                float *magnitude)
{
    const struct problem *p = &s->problem;
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    for (int64_t m = first_phase; m < first_phase + phases; m++)
        for (int64_t oc = 0; oc < p->out_channels; oc++)
            for (int64_t at = 0; at < strip->rows * strip->columns; at++) {
                const int64_t a = strip->a + at / strip->columns,
                              b = strip->b + at % strip->columns;
                double sum = 0.0, sum_abs = 0.0;
                for (int64_t t = 0; t < rows->tap_count * columns->tap_count; t++) {
                    const int64_t th = t / columns->tap_count, tw = t % columns->tap_count;
                    const int64_t ih = a + rows->distances[th], iw = b + columns->distances[tw];
                    if (ih < 0 || ih >= p->height || iw < 0 || iw >= p->width)
                        continue;
                    const int64_t kh = rows->phases[m / columns->phase_count].taps[th];
                    const int64_t kw = columns->phases[m % columns->phase_count].taps[tw];
                    for (int64_t ic = 0; ic < in_per_group; ic++) {
                        const int64_t in = oc / out_per_group * in_per_group + ic;
                        const double product =
                            (double)x[(in * p->height + ih) * p->width + iw] *
                            (double)
                                weight[((in * out_per_group + oc % out_per_group) * p->kernel_h +
                                        kh) *
                                           p->kernel_w +
                                       kw];
                        sum += product;
                        sum_abs += fabs(product);
                    }
                }
                const int64_t to = ((m - first_phase) * p->out_channels + oc) * pitch + at;
                c[to] = sum;
                magnitude[to] =
                    bias_magnitude(conv_bias, oc) + (float)(sum_abs * MAGNITUDE_INFLATION);
            }
}

void conv_transpose_strip(const struct subpixel *s, const struct packed_weights *packed,
                          const float *weight, const float *conv_bias, const float *x,
                          const struct strip *strip, int64_t first_phase, int64_t phases,
                          int64_t pitch, const struct gemm_scratch *scratch, double *c,
                          float *magnitude)
{
    const struct problem *p = &s->problem;
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const int64_t out = p->out_channels / p->groups, in = p->in_channels / p->groups;
    const int64_t all_phases = rows->phase_count * columns->phase_count;
    const int64_t positions = strip->rows * strip->columns;
    const int64_t k = rows->tap_count * columns->tap_count * in, pairs = (k + 1) / 2;

    if (!packed) {
        strip_by_definition(s, weight, conv_bias, x, strip, first_phase, phases, pitch, c,
                            magnitude);
        return;
    }
    for (int64_t row = 0; k == 0 && row < phases * p->out_channels; row++) {
        /* stride > kernel: no tap reaches these outputs */
        memset(c + row * pitch, 0, (size_t)positions * sizeof *c);
        for (int64_t i = 0; i < positions; i++)
            magnitude[row * pitch + i] = bias_magnitude(conv_bias, row % p->out_channels);
    }
    const struct strip_kernels *kernels = strip_kernels_get();
    int64_t offsets[MAGNITUDE_DEPTH];
    for (int64_t i = 0; i < MAGNITUDE_DEPTH; i++)
        offsets[i] = i * pitch;
    const double *class_weights = packed->weights + packed->weights_offset[strip->class_index];
    const int32_t *class_steps = packed->steps + packed->steps_offset[strip->class_index];
    const double *class_step = packed->step + packed->step_offset[strip->class_index];
    for (int64_t group = 0; group < p->groups; group++) {
        const float *group_x = x + group * in * p->height * p->width;
        for (int64_t k0 = 0; k0 < k; k0 += MAGNITUDE_DEPTH) {
            const int64_t block = k - k0 < MAGNITUDE_DEPTH ? k - k0 : MAGNITUDE_DEPTH;
            for (int64_t i = 0; i < block; i++) {
                const int64_t tap = (k0 + i) / in, ic = (k0 + i) % in;
                panel_row(p, group_x + ic * p->height * p->width, strip,
                          rows->distances[tap / columns->tap_count],
                          columns->distances[tap % columns->tap_count], scratch->panel + i * pitch);
            }
            kernels->quantise_f64(scratch->panel, block, pitch, positions, scratch->pairs,
                                  scratch->step, scratch->inverse);
            for (int64_t i = 0; i < phases; i++) {
                const int64_t first_row = (group * all_phases + first_phase + i) * out;
                const int64_t channel = group * out, to = (i * p->out_channels + channel) * pitch;
                const struct tile_product_f64 logits = {.weights = class_weights + first_row * k,
                                                        .rows = out,
                                                        .k = k,
                                                        .first = k0,
                                                        .depth = block,
                                                        .x = scratch->panel,
                                                        .offsets = offsets,
                                                        .c = c + to,
                                                        .pitch = pitch,
                                                        .row_step = 1,
                                                        .positions = positions,
                                                        .initial = k0 == 0 ? packed->zeros : NULL};
                const struct tile_product_i16 sums = {.weights = class_steps + first_row * pairs,
                                                      .rows = out,
                                                      .k = pairs,
                                                      .first = k0 / 2,
                                                      .depth = (block + 1) / 2,
                                                      .x = scratch->pairs,
                                                      .offsets = offsets,
                                                      .c = scratch->sums,
                                                      .pitch = pitch,
                                                      .row_step = 1,
                                                      .positions = positions,
                                                      .initial = packed->no_steps};
                kernels->product_f64(&logits);
                kernels->product_i16(&sums);
                for (int64_t oc = 0; oc < out; oc++)
                    kernels->dequantise_f32(scratch->sums + oc * pitch, positions,
                                            class_step[first_row + oc], scratch->step, k0 > 0,
                                            bias_magnitude(conv_bias, channel + oc),
                                            magnitude + to + oc * pitch);
            }
        }
    }
}
