/* Transposed convolution of one strip as a GEMM, in fp32 and in fp64.
 *
 * For a strip of positions (a, b) of one class (ref/subpixel.h) the shifted input pixels form the
 * panel B [K, positions], K = row taps * column taps * Cin/groups, and the class's weights the
 * matrix A [phases * Cout/groups, K] of every group. C = A B are the logits without conv_bias:
 *
 *     c[(phase * Cout + channel) * pitch + position],  position = (a - strip.a) * columns + (b -
 * strip.b)
 *
 * Positions outside a phase's own range hold values that nobody may read.
 *
 * Sums run over K in blocks of GEMM_K_BLOCK; every element's order of summation depends on the
 * problem alone, never on the number of threads.
 *
 * Padding zeros stand in the panel, so weights that are not finite take the definition instead
 * (0 * Inf is NaN): the caller passes no packed form for them. */
#ifndef ASSAY_REF_CONV_TRANSPOSE_GEMM_H
#define ASSAY_REF_CONV_TRANSPOSE_GEMM_H

#include "ref/subpixel.h"

/* Weights of one problem packed for the GEMM: for each class and group [phases * Cout/groups, K].
 */
struct packed_weights_f32 {
    float *data, *zeros;
    int64_t *class_offset; /* where a class begins, by strip.class_index */
};
struct packed_weights_f64 {
    double *data, *zeros;
    int64_t *class_offset;
};

/* `magnitude`: pack |W| instead of W. */
enum status pack_weights_f32(const struct subpixel *subpixel, const float *weight, bool magnitude,
                             struct packed_weights_f32 *packed, struct error *error);
enum status pack_weights_f64(const struct subpixel *subpixel, const float *weight, bool magnitude,
                             struct packed_weights_f64 *packed, struct error *error);
void packed_weights_release_f32(struct packed_weights_f32 *packed);
void packed_weights_release_f64(struct packed_weights_f64 *packed);

bool weights_are_finite(const struct problem *problem, const float *weight);

/* Elements of the panel that conv_transpose_strip needs as scratch. */
int64_t gemm_panel_size(const struct subpixel *subpixel, int64_t pitch);

/* Logits of phases [first_phase, first_phase + phases) of the strip's class to `c`, pitch elements
 * between channels (pitch >= positions). x is one image, `magnitude` reads |x|. `weight` in
 * PyTorch's layout is used when the packed form is NULL: the definition, slow, for weights that are
 * not finite. Runs on the calling thread. */
void conv_transpose_strip_f32(const struct subpixel *subpixel,
                              const struct packed_weights_f32 *packed, const float *weight,
                              bool magnitude, const float *x, const struct strip *strip,
                              int64_t first_phase, int64_t phases, int64_t pitch, float *panel,
                              float *c);
void conv_transpose_strip_f64(const struct subpixel *subpixel,
                              const struct packed_weights_f64 *packed, const float *weight,
                              bool magnitude, const float *x, const struct strip *strip,
                              int64_t first_phase, int64_t phases, int64_t pitch, double *panel,
                              double *c);

#endif
