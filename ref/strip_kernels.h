/* The vector kernels: the products that make logits, what is done to the logits, and comparison.
 *
 * One source, ref/strip_kernels.c, is compiled once for each instruction set; strip_kernels_get()
 * chooses the widest one that the processor has, or the one named by the environment variable
 * ASSAY_ISA (avx512, avx2, sse2; generic elsewhere than on x86-64).
 *
 * Layout of every array [channels][pitch]: element (c, i) at c * pitch + i, position i < positions;
 * pitch is a multiple of STRIP_PITCH and the arrays are aligned to 64 bytes, so that whole vectors
 * are handled and what stands behind the last position is never told from garbage. */
#ifndef ASSAY_REF_STRIP_KERNELS_H
#define ASSAY_REF_STRIP_KERNELS_H

#include "ref/bound.h"

#define STRIP_PITCH 16

/* The epilogue's operands. conv_bias may be NULL. bias_step is 0 for one broadcast element, else 1.
 */
struct epilogue {
    int64_t channels;
    const float *conv_bias;
    const float *bias;
    int64_t bias_step;
    float scaling_factor;
};

/* The product of a block of positions (ref/tile_product.h):
 *
 *     c[m * row_step * pitch + q] = initial[m * row_step]
 *                                   + sum over l < depth of W[m, first + l] x[offsets[l] + q]
 *
 * for rows m and positions q; without `initial`, the sum is added to c. Whole vectors of positions
 * are read and written: up to STRIP_PITCH - 1 elements behind the last one. */
struct tile_product_f32 {
    const float *weights; /* by pack_f32, pack_f64 or pack_i16 */
    int64_t rows, k;      /* of W */
    int64_t first, depth; /* columns of W to take */
    const float *x;
    const int64_t *offsets; /* [depth] */
    float *c;
    int64_t pitch, row_step;
    int64_t positions;
    const float *initial;
};
struct tile_product_f64 {
    const double *weights;
    int64_t rows, k;
    int64_t first, depth;
    const double *x;
    const int64_t *offsets;
    double *c;
    int64_t pitch, row_step;
    int64_t positions;
    const double *initial;
};

struct tile_product_i16 { /* pairs: k, first and depth count them */
    const int32_t *weights;
    int64_t rows, k;
    int64_t first, depth;
    const int32_t *x;
    const int64_t *offsets;
    int32_t *c;
    int64_t pitch, row_step;
    int64_t positions;
    const int32_t *initial;
};

/* Non-negative numbers as whole multiples of a step, rounded upwards to at most MAGNITUDE_MOST, of
 * which MAGNITUDE_DEPTH products fit in 31 bits. */
#define MAGNITUDE_MOST 2047
#define MAGNITUDE_DEPTH 512

/* One channel of a row phase: phases [positions] side by side. Position i of phase j is put at
 * line[i * step + place[j]]; the places differ modulo `step`. */
struct sigmoid_row {
    int64_t phases, step, positions;
    const float *const *c;          /* [phases] */
    const float *const *reciprocal; /* [phases] */
    const int64_t *place;           /* [phases] */
    float *line;
};

/* What the oracle knows of a strip of one phase, in fp64. */
struct oracle_arrays {
    int64_t channels, positions, pitch;
    double *logit;       /* [channels][pitch] z_c with conv_bias */
    float *magnitude;    /* [channels][pitch] S_c, from above (ref/conv_transpose_gemm.h) */
    double *probability; /* [channels][pitch] p_c */
    double *expected;    /* [channels][pitch] y_c */
    double *maximum;     /* [pitch] m */
    double *log_sum;     /* [pitch] log sum exp(z - m) */
};

/* What the bound of one class needs of every pixel. The worst case's may be NULL: it costs as much
 * again, and an element within the typical bound is within the worst. */
struct bound_pixels {
    double *spread[BOUND_TIERS];  /* [pitch] E */
    double *largest[BOUND_TIERS]; /* [pitch] max_j D_j */
};

struct comparison {
    int64_t above_typical, above_worst; /* elements; a NaN on one side alone counts in both */
    double max_abs_error, max_ratio;    /* largest error, and largest error over typical bound */
    int64_t max_abs_at, max_ratio_at;   /* their positions; -1: no larger than what was known */
};

struct strip_kernels {
    const char *isa;

    /* W [rows][k] in the order that the product reads. */
    void (*pack_f32)(const float *from, int64_t rows, int64_t k, float *to);
    void (*pack_f64)(const double *from, int64_t rows, int64_t k, double *to);
    void (*pack_i16)(const int32_t *from, int64_t rows, int64_t k, int32_t *to);
    void (*product_f32)(const struct tile_product_f32 *product);
    void (*product_f64)(const struct tile_product_f64 *product);
    void (*product_i16)(const struct tile_product_i16 *product);

    /* Panel [depth][pitch] -> |panel| in steps of each position, pairs [(depth + 1) / 2][pitch] of
     * two rows each; depth <= MAGNITUDE_DEPTH. inverse [positions] is scratch. */
    void (*quantise_f64)(const double *panel, int64_t depth, int64_t pitch, int64_t positions,
                         int32_t *pairs, double *step, double *inverse);
    /* to = addend + sums * row_step * step, or to += where `add`; one row. */
    void (*dequantise_f32)(const int32_t *sums, int64_t positions, double row_step,
                           const double *step, bool add, float addend, float *to);

    /* In place: logits c [channels][pitch] -> exp(c - max); reciprocal [positions] of their sums.
     */
    void (*softmax_f32)(int64_t channels, float *c, int64_t pitch, int64_t positions,
                        float *reciprocal);
    /* exp(c - max), reciprocal -> y, for one channel. */
    void (*sigmoid_f32)(const struct epilogue *e, int64_t channel, const struct sigmoid_row *row);
    /* Copies n floats to memory that is not read again soon. */
    void (*stream_f32)(float *to, const float *from, int64_t n);

    /* In: logit without conv_bias. Out: all arrays but the magnitude. */
    void (*oracle_f64)(const struct epilogue *e, const struct oracle_arrays *arrays);

    void (*bound_pixels)(const struct bound *bound, const struct epilogue *e,
                         const struct oracle_arrays *arrays, const struct bound_pixels *pixels);

    /* Bounds of channel c at every position: typical [pitch], worst [pitch], or NULL. */
    void (*bound_row)(const struct bound *bound, const struct epilogue *e,
                      const struct oracle_arrays *arrays, const struct bound_pixels *pixels,
                      int64_t c, double *typical, double *worst);

    /* to [n] = every step-th of `from`; the number of elements whose bits are `poison`. */
    int64_t (*gather_row)(const float *from, int64_t step, int64_t n, uint32_t poison, float *to);

    /* Compares got [n] with expected [n]. A NaN expectation accepts only NaN, an infinite bound
     * anything else. Positions of the largest errors are looked for only where they exceed known_*.
     * `worst` may be NULL: above_worst is 0 then. */
    void (*compare_row)(const float *got, const double *expected, const double *typical,
                        const double *worst, int64_t n, double known_ratio, double known_abs,
                        struct comparison *result);
};

const struct strip_kernels *strip_kernels_get(void);

#endif
