/* Compiled once for each instruction set: the Makefile defines ISA (a word) and ISA_<word>, and
 * passes the compiler flags of that set. Products, exponentials
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

/* Vectors handled together: their exponentials hide each other's latency, and what is read of a
 * channel is some lines in a row. */
#define ORACLE_BLOCK 4

static inline __attribute__((always_inline)) void
oracle_f64_block(const struct epilogue *e, const struct oracle_arrays *a, int64_t i, int vectors)
{
    vd maximum[ORACLE_BLOCK], sum[ORACLE_BLOCK];
    for (int v = 0; v < vectors; v++) {
        maximum[v] = (vd){0} - INFINITY;
        sum[v] = (vd){0};
    }
    for (int64_t ch = 0; ch < e->channels; ch++) {
        const double conv_bias = e->conv_bias ? (double)e->conv_bias[ch] : 0.0;
        vd *z = vd_at(a->logit + ch * a->pitch + i);
        for (int v = 0; v < vectors; v++) {
            z[v] += conv_bias;
            maximum[v] = vd_max(maximum[v], z[v]);
        }
    }
    for (int64_t ch = 0; ch < e->channels; ch++) {
        const vd *z = vd_at(a->logit + ch * a->pitch + i);
        vd *p = vd_at(a->probability + ch * a->pitch + i);
        for (int v = 0; v < vectors; v++) {
            p[v] = vd_exp(z[v] - maximum[v]);
            sum[v] += p[v];
        }
    }
    for (int v = 0; v < vectors; v++) {
        vd_at(a->maximum + i)[v] = maximum[v];
        vd_at(a->log_sum + i)[v] = sum[v]; /* its logarithm is taken below */
        sum[v] = 1.0 / sum[v];
    }
    const double scale = -(double)e->scaling_factor;
    for (int64_t ch = 0; ch < e->channels; ch++) {
        const double bias = (double)e->bias[ch * e->bias_step];
        vd *p = vd_at(a->probability + ch * a->pitch + i);
        vd *y = vd_at(a->expected + ch * a->pitch + i);
        for (int v = 0; v < vectors; v++) {
            p[v] *= sum[v];
            y[v] = vd_reciprocal(1.0 + vd_exp((p[v] + bias) * scale));
        }
    }
}

static void oracle_f64(const struct epilogue *e, const struct oracle_arrays *a)
{
    int64_t i = 0;
    for (; i + ORACLE_BLOCK * VD_LANES <= a->positions; i += ORACLE_BLOCK * VD_LANES)
        oracle_f64_block(e, a, i, ORACLE_BLOCK);
    for (; i < a->positions; i += VD_LANES)
        oracle_f64_block(e, a, i, 1);
    for (i = 0; i < a->positions; i++)
        a->log_sum[i] = log(a->log_sum[i]);
}

/* Whole steps, upwards, but for a relative 2^-50. A NaN, whose logit is none either, becomes the
 * largest. */
static inline vi_half steps_of(const double *values, const double *steps_per_unit)
{
    const vd all = vd_load(values), r = vd_max(all, -all) * vd_load(steps_per_unit);
    const vd steps = -vd_max(-r, vd_set(-MAGNITUDE_MOST));
    const vi_half whole = __builtin_convertvector(steps, vi_half);
    return whole - __builtin_convertvector(__builtin_convertvector(whole, vd) < steps, vi_half);
}

static void quantise_f64(const double *panel, int64_t depth, int64_t pitch, int64_t positions,
                         int32_t *pairs, double *step, double *inverse)
{
    memset(step, 0, (size_t)positions * sizeof *step);
    for (int64_t l = 0; l < depth; l++) {
        const double *row = panel + l * pitch;
#pragma omp simd
        for (int64_t i = 0; i < positions; i++) {
            const double v = fabs(row[i]);
            step[i] = v > step[i] ? v : step[i];
        }
    }
    for (int64_t i = 0; i < positions; i++) {
        inverse[i] = step[i] > 0.0 ? MAGNITUDE_MOST / step[i] : 0.0;
        step[i] /= MAGNITUDE_MOST;
    }
    for (int64_t l = 0; l < depth; l += 2) {
        const double *even = panel + l * pitch;
        for (int64_t i = 0; i < positions; i += VD_LANES) {
            vi_half pair = steps_of(even + i, inverse + i);
            if (l + 1 < depth)
                pair += steps_of(even + pitch + i, inverse + i) * 0x10000;
            memcpy(pairs + l / 2 * pitch + i, &pair, sizeof pair);
        }
    }
}

static void dequantise_f32(const int32_t *sums, int64_t positions, double row_step,
                           const double *step, bool add, float addend, float *to)
{
    if (add)
        for (int64_t i = 0; i < positions; i++)
            to[i] += (float)((double)sums[i] * (row_step * step[i]));
    else
        for (int64_t i = 0; i < positions; i++)
            to[i] = addend + (float)((double)sums[i] * (row_step * step[i]));
}

/* D_c of an ordinary logit, finite with a magnitude below 2^127, of a class that does not round its
 * operands: what bound_logit() then comes to. */
static inline double plain_logit(const struct bound *b, int tier, double magnitude, double logit,
                                 double maximum)
{
    return b->relative[tier] * magnitude + b->absolute +
           b->argument * (fabs(logit) + fabs(maximum));
}

static inline __attribute__((always_inline)) void pixels_of(bool plain, int tier, struct bound b,
                                                            const struct epilogue *e,
                                                            const struct oracle_arrays *a,
                                                            double *spread, double *largest)
{
    const int64_t n = a->positions;
    const double *m = a->maximum;
    memset(spread, 0, (size_t)n * sizeof *spread);
    memset(largest, 0, (size_t)n * sizeof *largest);
    for (int64_t c = 0; c < a->channels; c++) {
        const double *z = a->logit + c * a->pitch, *p = a->probability + c * a->pitch;
        const float *s = a->magnitude + c * a->pitch;
        const double cb = e->conv_bias ? fabs((double)e->conv_bias[c]) : 0.0;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            const double d =
                plain ? plain_logit(&b, tier, (double)s[i], z[i], m[i])
                      : bound_logit(&b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
            spread[i] += p[i] * bound_expm1(d);
            largest[i] = d > largest[i] ? d : largest[i];
        }
    }
}

static bool rounds_operands(const struct bound *b, int tier)
{
    return tier == BOUND_TYPICAL && b->operand_magnitude > 0.0;
}

static void bound_pixels(const struct bound *b, const struct epilogue *e,
                         const struct oracle_arrays *a, const struct bound_pixels *pixels)
{
    for (int tier = 0; tier < BOUND_TIERS; tier++) {
        double *spread = pixels->spread[tier], *largest = pixels->largest[tier];
        if (!spread)
            continue;
        bool plain = !rounds_operands(b, tier);
        if (plain) {
            pixels_of(true, tier, *b, e, a, spread, largest);
            /* A logit or magnitude that is not ordinary shows in one of them. */
            int ordinary = 1;
            for (int64_t i = 0; i < a->positions; i++)
                ordinary &= (spread[i] <= 1.0) & (largest[i] <= 1.0);
            plain = ordinary;
        }
        if (!plain)
            pixels_of(false, tier, *b, e, a, spread, largest);
    }
}

static inline __attribute__((always_inline)) int tolerances_of(bool plain, int tier, struct bound b,
                                                               const struct epilogue *e,
                                                               const struct oracle_arrays *a,
                                                               const struct bound_pixels *pixels,
                                                               int64_t c, double *tolerance)
{
    const int64_t n = a->positions;
    const double *z = a->logit + c * a->pitch, *p = a->probability + c * a->pitch;
    const double *y = a->expected + c * a->pitch, *m = a->maximum;
    const double *spread = pixels->spread[tier], *largest = pixels->largest[tier];
    const float *s = a->magnitude + c * a->pitch;
    const double bias = (double)e->bias[c * e->bias_step];
    const double cb = e->conv_bias ? fabs((double)e->conv_bias[c]) : 0.0;
    int wide = 0;
#pragma omp simd reduction(| : wide)
    for (int64_t i = 0; i < n; i++) {
        const double d = plain
                             ? plain_logit(&b, tier, (double)s[i], z[i], m[i])
                             : bound_logit(&b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
        /* Where the logit is not ordinary, its pixel's largest is either infinite or not of it. */
        wide |= plain & !(d <= largest[i]);
        tolerance[i] = bound_output(&b, (enum bound_tier)tier, d, spread[i], largest[i], p[i], y[i],
                                    bias, &wide);
    }
    return wide;
}

/* log of (C - 1) exp(z_o - z_c), with z_o the largest of the other logits of the pixel. */
static double log_others(const struct oracle_arrays *a, int64_t c, int64_t i)
{
    double largest = -INFINITY;
    for (int64_t k = 0; k < a->channels; k++)
        if (k != c && a->logit[k * a->pitch + i] > largest)
            largest = a->logit[k * a->pitch + i];
    return a->channels > 1 ? log((double)(a->channels - 1)) + largest - a->logit[c * a->pitch + i]
                           : -INFINITY;
}

static void bound_row(const struct bound *b, const struct epilogue *e,
                      const struct oracle_arrays *a, const struct bound_pixels *pixels, int64_t c,
                      double *typical, double *worst)
{
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
        const int wide = rounds_operands(b, tier)
                             ? tolerances_of(false, tier, *b, e, a, pixels, c, tolerance)
                             : tolerances_of(true, tier, *b, e, a, pixels, c, tolerance);
        if (!wide)
            continue;
        for (int64_t i = 0; i < a->positions; i++) {
            const double d = bound_logit(b, (enum bound_tier)tier, (double)s[i], z[i], m[i], cb);
            int this_one = 0;
            tolerance[i] = bound_output(b, (enum bound_tier)tier, d, spread[i], largest[i], p[i],
                                        y[i], bias, &this_one);
            if (this_one)
                tolerance[i] = bound_output_wide(
                    b, (enum bound_tier)tier, d, largest[i], z[i] - m[i] - a->log_sum[i],
                    p[i] > 0.5 ? log_others(a, c, i) : 0.0, p[i], y[i], bias);
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
        const bool none = y != y, gives_none = got[i] != got[i];
        if (none ? gives_none : typical[i] == INFINITY)
            continue;
        if (none || gives_none) {
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
    .pack_i16 = pack_i16,
    .product_f32 = product_f32,
    .product_f64 = product_f64,
    .product_i16 = product_i16,
    .quantise_f64 = quantise_f64,
    .dequantise_f32 = dequantise_f32,
    .softmax_f32 = softmax_f32,
    .sigmoid_f32 = sigmoid_f32,
    .stream_f32 = stream_f32,
    .oracle_f64 = oracle_f64,
    .bound_pixels = bound_pixels,
    .bound_row = bound_row,
    .gather_row = gather_row,
    .compare_row = compare_row,
};
