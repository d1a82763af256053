/* Compiled once for each instruction set: the Makefile defines ISA (a word) and ISA_<word>, and
 * passes the compiler flags of that set. The oracle's exponentials are SLEEF's, 1.0 ulp; products
 * and the fp32 epilogue are in the headers; the loops of bounds and comparison are left to the
 * compiler's vectoriser. */
#include "ref/strip_kernels.h"

#include <math.h>
#include <string.h>

#include "ref/tile_epilogue.h"
#include "ref/tile_product.h"
#include "ref/vector.h"

static inline vd *vd_at(double *p)
{
    return (vd *)__builtin_assume_aligned(p, sizeof(vd));
}

static void oracle_f64_block(const struct epilogue *e, const struct oracle_arrays *a, int64_t i)
{
    vd maximum = (vd){0} - INFINITY, sum = (vd){0};
    for (int64_t ch = 0; ch < e->channels; ch++) {
        vd *z = vd_at(a->logit + ch * a->pitch + i);
        *z += e->conv_bias ? (double)e->conv_bias[ch] : 0.0;
        maximum = vd_max(maximum, *z);
    }
    for (int64_t ch = 0; ch < e->channels; ch++) {
        const vd value = VD_EXP(*vd_at(a->logit + ch * a->pitch + i) - maximum);
        *vd_at(a->probability + ch * a->pitch + i) = value;
        sum += value;
    }
    *vd_at(a->maximum + i) = maximum;
    *vd_at(a->log_sum + i) = sum; /* its logarithm is taken below */
    const double scale = -(double)e->scaling_factor;
    for (int64_t ch = 0; ch < e->channels; ch++) {
        vd *p = vd_at(a->probability + ch * a->pitch + i);
        *p /= sum;
        *vd_at(a->expected + ch * a->pitch + i) =
            1.0 / (1.0 + VD_EXP((*p + (double)e->bias[ch * e->bias_step]) * scale));
    }
}

/* The magnitudes come from an fp32 GEMM of non-negative numbers, summed in blocks of at most 512
 * products: a relative error of at most (512 + K / 512) 2^-24, below 2^-9 for every K up to 2^23.
 */
#define MAGNITUDE_INFLATION (1.0f + 0x1p-8f)

static void oracle_f64(const struct epilogue *e, const struct oracle_arrays *a)
{
    for (int64_t i = 0; i < a->positions; i += VD_LANES)
        oracle_f64_block(e, a, i);
    for (int64_t i = 0; i < a->positions; i++)
        a->log_sum[i] = log(a->log_sum[i]);
    for (int64_t ch = 0; ch < e->channels; ch++) {
        float *s = a->magnitude + ch * a->pitch;
        const float b = e->conv_bias ? fabsf(e->conv_bias[ch]) : 0.0f;
        for (int64_t i = 0; i < a->positions; i++)
            s[i] = (s[i] + b) * MAGNITUDE_INFLATION;
    }
}

static void bound_pixels(const struct bound *b, const struct epilogue *e,
                         const struct oracle_arrays *a, const struct bound_pixels *pixels)
{
    const int64_t n = a->positions;
    for (int tier = 0; tier < BOUND_TIERS; tier++) {
        double *spread = pixels->spread[tier], *largest = pixels->largest[tier];
        if (!spread)
            continue;
        memset(spread, 0, (size_t)n * sizeof *spread);
        memset(largest, 0, (size_t)n * sizeof *largest);
        for (int64_t c = 0; c < a->channels; c++) {
            const double *z = a->logit + c * a->pitch, *p = a->probability + c * a->pitch;
            const float *s = a->magnitude + c * a->pitch;
            const double *m = a->maximum;
            const double cb = e->conv_bias ? fabs((double)e->conv_bias[c]) : 0.0;
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                const double d =
                    bound_logit(b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
                spread[i] += p[i] * bound_expm1(d);
                largest[i] = d > largest[i] ? d : largest[i];
            }
        }
    }
}

static void bound_row(const struct bound *b, const struct epilogue *e,
                      const struct oracle_arrays *a, const struct bound_pixels *pixels, int64_t c,
                      double *typical, double *worst)
{
    const int64_t n = a->positions;
    const double *z = a->logit + c * a->pitch, *p = a->probability + c * a->pitch;
    const double *y = a->expected + c * a->pitch, *m = a->maximum;
    const float *s = a->magnitude + c * a->pitch;
    const double bias = (double)e->bias[c * e->bias_step];
    const double cb = e->conv_bias ? fabs((double)e->conv_bias[c]) : 0.0;
    double *const out[BOUND_TIERS] = {typical, worst};
    for (int tier = 0; tier < BOUND_TIERS; tier++) {
        const double *spread = pixels->spread[tier], *largest = pixels->largest[tier];
        double *tolerance = out[tier];
        if (!tolerance)
            continue;
        int wide = 0;
#pragma omp simd reduction(| : wide)
        for (int64_t i = 0; i < n; i++) {
            const double d = bound_logit(b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
            tolerance[i] = bound_output(b, (enum bound_tier)tier, d, spread[i], largest[i], p[i],
                                        y[i], bias, &wide);
        }
        if (!wide)
            continue;
        for (int64_t i = 0; i < n; i++) {
            const double d = bound_logit(b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
            int this_one = 0;
            bound_output(b, (enum bound_tier)tier, d, spread[i], largest[i], p[i], y[i], bias,
                         &this_one);
            if (this_one)
                tolerance[i] = bound_output_wide(b, (enum bound_tier)tier, d, largest[i],
                                                 z[i] - m[i] - a->log_sum[i], p[i], y[i], bias);
        }
    }
}

static int64_t gather_row(const float *from, int64_t step, int64_t n, uint32_t poison, float *to)
{
    int32_t found = 0;
    if (step == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (step == 2)
        for (int64_t i = 0; i < n; i++)
            to[i] = from[2 * i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i * step];
#pragma omp simd reduction(+ : found)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &to[i], sizeof bits);
        found += bits == poison;
    }
    return found;
}

static void compare_row(const float *got, const double *expected, const double *typical,
                        const double *worst, int64_t n, double known_ratio, double known_abs,
                        struct comparison *result)
{
    /* A whole row is within its bounds and no record, or is looked at below. No quotient is taken
     * here: a little less than the known one allows for the roundings. */
    const double ratio = known_ratio * (1.0 - 0x1p-50);
    int look = 0;
#pragma omp simd reduction(| : look)
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - expected[i]);
        look |= !(error <= typical[i]) | (error > ratio * typical[i]) | (error > known_abs);
    }
    *result = (struct comparison){
        .max_abs_error = known_abs, .max_ratio = known_ratio, .max_ratio_at = -1, .max_abs_at = -1};
    if (!look)
        return;
    for (int64_t i = 0; i < n; i++) {
        const double y = expected[i], error = fabs((double)got[i] - y);
        if (typical[i] == INFINITY || (y != y && got[i] != got[i]))
            continue;
        if (y != y || got[i] != got[i]) {
            result->above_typical++;
            result->above_worst++;
            continue;
        }
        result->above_typical += !(error <= typical[i]);
        result->above_worst += worst && !(error <= worst[i]);
        if (error > result->max_abs_error) {
            result->max_abs_error = error;
            result->max_abs_at = i;
        }
        if (error / typical[i] > result->max_ratio) {
            result->max_ratio = error / typical[i];
            result->max_ratio_at = i;
        }
    }
}

#define STRINGIFY(x) #x
#define NAME(x) STRINGIFY(x)
#define CONCAT(a, b) a##b
#define TABLE(isa) CONCAT(strip_kernels_, isa)

extern const struct strip_kernels TABLE(ISA);
const struct strip_kernels TABLE(ISA) = {
    .isa = NAME(ISA),
    .pack_f32 = pack_f32,
    .pack_f64 = pack_f64,
    .product_f32 = product_f32,
    .product_f64 = product_f64,
    .softmax_f32 = softmax_f32,
    .sigmoid_f32 = sigmoid_f32,
    .stream_f32 = stream_f32,
    .oracle_f64 = oracle_f64,
    .bound_pixels = bound_pixels,
    .bound_row = bound_row,
    .gather_row = gather_row,
    .compare_row = compare_row,
};
