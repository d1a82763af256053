/* The practical oracle: expected values in fp64 at full size, with everything that the bounds of
 * any arithmetic class need, image by image and strip by strip.
 *
 * Logits come from the GEMM form in fp64, magnitudes S_c = |conv_bias| + sum |W| |x| from whole
 * numbers rounded upwards (ref/conv_transpose_gemm.h). A strip holds outputs of one phase:
 *
 *     position i * pitch_columns + j  <->  output row     oh + i * step_h
 *                                          output column  ow + j * step_w
 *
 * for 0 <= i < rows, 0 <= j < columns, counted from `first_position`. */
#ifndef ASSAY_REF_ORACLE_H
#define ASSAY_REF_ORACLE_H

#include "ref/strip_kernels.h"

struct oracle;

struct oracle_strip {
    const struct oracle_arrays *arrays;
    int64_t image;          /* index in the batch */
    int64_t first_position; /* in the arrays */
    int64_t rows, columns;  /* outputs of this strip */
    int64_t pitch_columns;  /* positions between rows */
    int64_t oh, ow;         /* output of the first position */
    int64_t step_h, step_w;
};

/* `params` is borrowed. STATUS_ENVIRONMENT when memory is lacking. */
enum status oracle_create(struct oracle **oracle, const struct problem *problem,
                          const struct params *params, struct error *error);
void oracle_free(struct oracle *oracle);

/* The epilogue's operands, for strip_kernels. */
const struct epilogue *oracle_epilogue(const struct oracle *oracle);

/* Largest positions that a strip may have (a pitch). */
int64_t oracle_pitch(const struct oracle *oracle);

/* Calls `visit` for every strip of images [first, first + count); x points to image `first`. Visits
 * happen on many OpenMP threads at once, `thread` < omp_get_max_threads(); the arrays are the
 * visitor's to read until it returns. Every output of the images is in exactly one strip. A visitor
 * that returns false stops the walk. */
typedef bool (*oracle_visit)(void *context, int thread, const struct oracle_strip *strip);
enum status oracle_run(struct oracle *oracle, const float *x, int64_t first, int64_t count,
                       oracle_visit visit, void *context, struct error *error);

/* Expected values of images [first, first + count) as y [count, Cout, Ho, Wo]. */
enum status oracle_expected(struct oracle *oracle, const float *x, int64_t first, int64_t count,
                            double *y, struct error *error);

#endif
