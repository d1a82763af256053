/* Transposed convolution of one strip as a GEMM in fp64, and the magnitudes S = sum |W| |x| of the
 * same sums, from above.
 *
 * For a strip of positions (a, b) of one class (ref/subpixel.h) the shifted input pixels form the
 * panel B [K, positions], K = row taps * column taps * Cin/groups, and the class's weights the
 * matrix A [phases * Cout/groups, K] of every group. C = A B are the logits without conv_bias:
 *
 *     c[(phase * Cout + channel) * pitch + position],
 *     position = (a - strip.a) * columns + (b - strip.b)
 *
 * Positions outside a phase's own range hold values that nobody may read.
 *
 * Sums run over K in blocks of MAGNITUDE_DEPTH; every element's order of summation depends on the
 * problem alone, never on the number of threads.
 *
 * Magnitudes. Each row m of |A| and, within a block of K, each column q of |B| is rounded upwards
 * to whole multiples of a step of its own, 1/2047 of its largest element:
 *
 *     |A[m, l]| <= W_m a[m, l],   |B[l, q]| <= X_q b[l, q],   0 <= a, b <= 2047
 *     S <= sum over blocks of W_m X_q sum a b <= S + X_q sum |A| + W_m sum |B| + K W_m X_q
 *
 * The inner sum is exact: 512 * 2047^2 < 2^31, pairs of products by the multiplications of 16-bit
 * integers that every x86-64 has, at twice the rate of fp32. What else is rounded, relatively 2^-49
 * in a and b, 2^-24 for each block and its addition to the others and to |conv_bias|, is below
 * 2^-10 for every K up to 2^23 and covered by that factor. On Gaussian x and uniform W the result
 * is 0.3 % above S.
 *
 * Padding zeros stand in the panel, so weights that are not finite take the definition instead
 * (0 * Inf is NaN): they have no packed form. Where x is not finite neither is the logit, and the
 * magnitude means nothing. */
#ifndef ASSAY_REF_CONV_TRANSPOSE_GEMM_H
#define ASSAY_REF_CONV_TRANSPOSE_GEMM_H

#include "ref/subpixel.h"

/* Weights of one problem packed for the GEMM: for each class and group [phases * Cout/groups, K].
 */
struct packed_weights {
    double *weights, *zeros;
    int32_t *steps, *no_steps; /* |W| in steps, pairs of K [.., (K + 1) / 2]; zeros */
    double *step;              /* of each row, inflated for the roundings */
    /* Where a class begins in these three, by strip.class_index. */
    int64_t *weights_offset, *steps_offset, *step_offset;
};

/* STATUS_ENVIRONMENT when memory is lacking. */
enum status pack_weights(const struct subpixel *subpixel, const float *weight,
                         struct packed_weights *packed, struct error *error);
void packed_weights_release(struct packed_weights *packed);

bool weights_are_finite(const struct problem *problem, const float *weight);

/* Elements of the panel that conv_transpose_strip needs as scratch. */
int64_t gemm_panel_size(const struct subpixel *subpixel, int64_t pitch);

/* What conv_transpose_strip works in: panel and pairs [gemm_panel_size], sums [Cout/groups][pitch],
 * step and inverse [pitch]; aligned to 64 bytes. */
struct gemm_scratch {
    double *panel, *step, *inverse;
    int32_t *pairs, *sums;
};

/* Logits of phases [first_phase, first_phase + phases) of the strip's class to `c`, and magnitudes
 * with |conv_bias| (NULL: none) to `magnitude`, pitch elements between channels (pitch >=
 * positions). x is one image. `weight` in PyTorch's layout is used when the packed form is NULL:
 * the definition, slow, for weights that are not finite. Runs on the calling thread. */
void conv_transpose_strip(const struct subpixel *subpixel, const struct packed_weights *packed,
                          const float *weight, const float *conv_bias, const float *x,
                          const struct strip *strip, int64_t first_phase, int64_t phases,
                          int64_t pitch, const struct gemm_scratch *scratch, double *c,
                          float *magnitude);

#endif
