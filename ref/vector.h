/* One vector type for each instruction set and element type, and what the vector kernels need of
 * it. Included by ref/strip_kernels.c only, which is compiled once for each set: ISA_<name> is
 * defined, and the compiler's flags are those of that set.
 *
 *     vf, vd, vi              vectors of float, double and int32_t; VF_LANES, VD_LANES elements
 *     vf_fma(a, b, c)         a b + c; rounded once where the set has FMA
 *     vi_madd(a, b, c)        c + a0 b0 + a1 b1, of the int16_t halves of every element
 *     vf_max, vf_min          a NaN in the second operand stays
 *     vf_exp2(t)              2^t, relative error below 2^-23; t in [-126, 126], or NaN
 *     vf_reciprocal(d)        1 / d within 1 ulp, d in [1, 2^127), or NaN
 *     vd_exp(x)               e^x within 1 ulp where the set has FMA, else the library's; beyond
 *                             -708 and 708 as there; a NaN stays
 *     vd_reciprocal(d)        1 / d within 1 ulp, d in [1, 2^1022], or NaN
 */
#ifndef ASSAY_REF_VECTOR_H
#define ASSAY_REF_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(ISA_avx512)
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif defined(ISA_avx2)
#include <immintrin.h>
#define VECTOR_BYTES 32
#elif defined(ISA_sse2)
#include <emmintrin.h>
#include <sleef.h>
#define VECTOR_BYTES 16
#else
#if defined(__aarch64__)
#include <arm_neon.h>
#endif
#define VECTOR_BYTES 16
#endif

typedef float vf __attribute__((vector_size(VECTOR_BYTES)));
typedef double vd __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vi __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t vl __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vi_half
    __attribute__((vector_size(VECTOR_BYTES / 2))); /* a number of each of vd's */
typedef float vf_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef double vd_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

#define VF_LANES ((int64_t)(sizeof(vf) / sizeof(float)))
#define VD_LANES ((int64_t)(sizeof(vd) / sizeof(double)))

/* Rows of the largest tile of a product (ref/tile_product.h): with TILE_VECTORS columns of vectors
 * its sums and its operands fill the registers. */
#if defined(ISA_avx2) || defined(ISA_sse2)
#define TILE_ROWS 4
#else
#define TILE_ROWS 8
#endif

static inline vf vf_set(float x)
{
#if defined(ISA_avx512)
    return _mm512_set1_ps(x);
#elif defined(ISA_avx2)
    return _mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}

static inline vf vf_load(const float *p)
{
    return *(const vf_unaligned *)p;
}

static inline void vf_store(float *p, vf v)
{
    *(vf_unaligned *)p = v;
}

static inline vd vd_set(double x)
{
#if defined(ISA_avx512)
    return _mm512_set1_pd(x);
#elif defined(ISA_avx2)
    return _mm256_set1_pd(x);
#else
    return (vd){x, x};
#endif
}

static inline vd vd_load(const double *p)
{
    return *(const vd_unaligned *)p;
}

static inline void vd_store(double *p, vd v)
{
    *(vd_unaligned *)p = v;
}

static inline vd vd_fma(vd a, vd b, vd c)
{
#if defined(ISA_avx512)
    return _mm512_fmadd_pd(a, b, c);
#elif defined(ISA_avx2)
    return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
    return (vd)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}

static inline vf vf_fma(vf a, vf b, vf c)
{
#if defined(ISA_avx512)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(ISA_avx2)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

static inline vi vi_set(int32_t x)
{
#if defined(ISA_avx512)
    return (vi)_mm512_set1_epi32(x);
#elif defined(ISA_avx2)
    return (vi)_mm256_set1_epi32(x);
#else
    return (vi){x, x, x, x};
#endif
}

static inline vi vi_load(const int32_t *p)
{
    return *(const vi_unaligned *)p;
}

static inline void vi_store(int32_t *p, vi v)
{
    *(vi_unaligned *)p = v;
}

static inline vi vi_madd(vi a, vi b, vi c)
{
#if defined(ISA_avx512)
    return (vi)_mm512_add_epi32((__m512i)c, _mm512_madd_epi16((__m512i)a, (__m512i)b));
#elif defined(ISA_avx2)
    return (vi)_mm256_add_epi32((__m256i)c, _mm256_madd_epi16((__m256i)a, (__m256i)b));
#elif defined(ISA_sse2)
    return (vi)_mm_add_epi32((__m128i)c, _mm_madd_epi16((__m128i)a, (__m128i)b));
#else
    return c + (vi)((vi)(a << 16) >> 16) * ((vi)(b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

static inline vf vf_max(vf a, vf b)
{
#if defined(ISA_avx512)
    return _mm512_max_ps(a, b);
#elif defined(ISA_avx2)
    return _mm256_max_ps(a, b);
#elif defined(ISA_sse2)
    return _mm_max_ps(a, b);
#else
    const vi larger = a > b;
    return (vf)(((vi)a & larger) | ((vi)b & ~larger));
#endif
}

static inline vf vf_min(vf a, vf b)
{
#if defined(ISA_avx512)
    return _mm512_min_ps(a, b);
#elif defined(ISA_avx2)
    return _mm256_min_ps(a, b);
#elif defined(ISA_sse2)
    return _mm_min_ps(a, b);
#else
    const vi smaller = a < b;
    return (vf)(((vi)a & smaller) | ((vi)b & ~smaller));
#endif
}

static inline vd vd_max(vd a, vd b)
{
#if defined(ISA_avx512)
    return _mm512_max_pd(a, b);
#elif defined(ISA_avx2)
    return _mm256_max_pd(a, b);
#elif defined(ISA_sse2)
    return _mm_max_pd(a, b);
#else
    for (int i = 0; i < 2; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
#endif
}

/* 2^n (1 + r + r^2 q(r)), r in [-ln 2 / 2, ln 2 / 2]: q interpolates at the Chebyshev nodes of
 * degree 10 and deviates by 2^-55.8, relatively. */
#define EXP_LOG2_E 0x1.71547652b82fep+0
#define EXP_LN2_HIGH 0x1.62e42fefa39efp-1
#define EXP_LN2_LOW 0x1.abc9e3b39803fp-56
#define EXP_LIMIT 708.0

static inline vd vd_exp(vd x)
{
#if defined(ISA_avx512) || defined(ISA_avx2) || defined(__aarch64__)
    static const double q[] = {0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d63p-5,
                               0x1.11111111109b3p-7,  0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13,
                               0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19, 0x1.289185613a3d6p-22,
                               0x1.af38a9b0ec855p-26};
    x = vd_max(vd_set(-EXP_LIMIT), x); /* the order keeps NaN */
    x = -vd_max(vd_set(-EXP_LIMIT), -x);
    const vd biased = vd_fma(x, vd_set(EXP_LOG2_E), vd_set(0x1.8p52)); /* its low bits are n */
    const vd n = biased - 0x1.8p52;
    const vd r = vd_fma(n, vd_set(-EXP_LN2_LOW), vd_fma(n, vd_set(-EXP_LN2_HIGH), x));
    vd p = vd_set(q[9]);
    for (int i = 8; i >= 0; i--)
        p = vd_fma(p, r, vd_set(q[i]));
    p = vd_fma(vd_fma(p, r, vd_set(1.0)), r, vd_set(1.0));
    return (vd)((vl)p + ((vl)biased << 52)); /* p in [0.7, 1.42]: the exponent has room */
#elif defined(ISA_sse2)
    x = vd_max(vd_set(-EXP_LIMIT), x);
    return Sleef_expd2_u10sse2(-vd_max(vd_set(-EXP_LIMIT), -x));
#else
    for (int i = 0; i < 2; i++)
        x[i] = exp(x[i] < -EXP_LIMIT ? -EXP_LIMIT : x[i] > EXP_LIMIT ? EXP_LIMIT : x[i]);
    return x;
#endif
}

static inline vd vd_reciprocal(vd d)
{
#if defined(ISA_avx512)
    vd r = _mm512_rcp14_pd(d);
    r = vd_fma(r, vd_fma(-d, r, vd_set(1.0)), r);
    return vd_fma(r, vd_fma(-d, r, vd_set(1.0)), r);
#else
    return 1.0 / d;
#endif
}

/* The polynomial of degree 6 that deviates least from 2^r on [-1/2, 1/2], relatively, with the
 * first coefficient held at 1: 2e-9 before the roundings, 2^-23.3 with them. */
#define EXP2_C1 0x1.62e43p-1f
#define EXP2_C2 0x1.ebfbdcp-3f
#define EXP2_C3 0x1.c6aee8p-5f
#define EXP2_C4 0x1.3b2d4cp-7f
#define EXP2_C5 0x1.5f3e52p-10f
#define EXP2_C6 0x1.41fbbcp-13f

static inline vf vf_exp2(vf t)
{
#if defined(ISA_avx512)
    const vf whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const vf biased = t + 0x1.8p23f; /* its low bits are the nearest whole number */
    const vf whole = biased - 0x1.8p23f;
#endif
    const vf r = t - whole;
    vf p = vf_fma(vf_set(EXP2_C6), r, vf_set(EXP2_C5));
    p = vf_fma(p, r, vf_set(EXP2_C4));
    p = vf_fma(p, r, vf_set(EXP2_C3));
    p = vf_fma(p, r, vf_set(EXP2_C2));
    p = vf_fma(p, r, vf_set(EXP2_C1));
    p = vf_fma(p, r, vf_set(1.0f));
#if defined(ISA_avx512)
    return _mm512_scalef_ps(p, whole);
#else
    return (vf)((vi)p + (vi)((vi)biased << 23)); /* p in [0.7, 1.42]: the exponent has room */
#endif
}

static inline vf vf_reciprocal(vf d)
{
#if defined(ISA_avx512)
    const vf r = _mm512_rcp14_ps(d);
    return vf_fma(r, vf_fma(-d, r, vf_set(1.0f)), r);
#else
    return 1.0f / d;
#endif
}

#endif
