/* The fp32 epilogue of a block of logits, included by ref/strip_kernels.c for each instruction set.
 *
 * Two passes over a block that lies in L2, one vector exponential an element in each:
 *
 *     softmax_f32    c := 2^((c - max) log2 e), and the reciprocal of their sum for each position
 *     sigmoid_f32    y = 1 / (1 + 2^(a c reciprocal + b_channel)),  a = -scaling_factor log2 e,
 *                    b = a bias: one FMA, 2^t, one reciprocal; the phases of a row are interleaved
 *                    as they are made
 *
 * 2^t is a polynomial of degree 6 (ref/vector.h): 10 instructions, where a library's expf that is
 * ready for every argument takes 20 to 30. Results leave by streaming stores of whole cache lines.
 *
 * Alone, on logits that lie in L2 (128 channels, blocks of 2 x 192 as in the home case), Zen 4,
 * AVX-512, processor time of one thread: 0.63 ns an output, 6.3 GB/s, where the same rows streamed
 * without arithmetic reach 23 GB/s; 0.49 ns without the stores. Two threads: 46 % of the write
 * ceiling that they share, 27 GB/s, and 60 % were stores free: some 32 vector instructions for 16
 * outputs, about one a cycle, are what bounds it. */
#ifndef ASSAY_REF_TILE_EPILOGUE_H
#define ASSAY_REF_TILE_EPILOGUE_H

#include "ref/strip_kernels.h"
#include "ref/vector.h"

#define LOG2_E 0x1.715476p+0f
/* 2^t is 0 or infinite for the epilogue's purposes beyond these. */
#define EXP2_LOW -126.0f
#define EXP2_HIGH 126.0f
/* Vectors handled together: enough independent exponentials to hide their latency. */
#define BLOCK 4

static inline vf clamp_low(vf t)
{
    return vf_max(vf_set(EXP2_LOW), t); /* the order keeps NaN */
}

static inline vf clamp(vf t)
{
    return vf_min(vf_set(EXP2_HIGH), clamp_low(t));
}

static inline __attribute__((always_inline)) void
softmax_block(int64_t channels, float *c, int64_t pitch, int vectors, float *reciprocal)
{
    vf maximum[BLOCK], sum[BLOCK];
    for (int v = 0; v < vectors; v++) {
        maximum[v] = vf_set(-INFINITY);
        sum[v] = (vf){0};
    }
    for (int64_t ch = 0; ch < channels; ch++)
        for (int v = 0; v < vectors; v++)
            maximum[v] = vf_max(maximum[v], vf_load(c + ch * pitch + v * VF_LANES));
    for (int64_t ch = 0; ch < channels; ch++)
        for (int v = 0; v < vectors; v++) {
            float *z = c + ch * pitch + v * VF_LANES;
            const vf e = vf_exp2(clamp_low((vf_load(z) - maximum[v]) * LOG2_E));
            vf_store(z, e);
            sum[v] += e;
        }
    for (int v = 0; v < vectors; v++)
        vf_store(reciprocal + v * VF_LANES, 1.0f / sum[v]);
}

static void softmax_f32(int64_t channels, float *c, int64_t pitch, int64_t positions,
                        float *reciprocal)
{
    int64_t i = 0;
    for (; i + BLOCK * VF_LANES <= positions; i += BLOCK * VF_LANES)
        softmax_block(channels, c + i, pitch, BLOCK, reciprocal + i);
    for (; i < positions; i += VF_LANES)
        softmax_block(channels, c + i, pitch, 1, reciprocal + i);
}

/* scaling_factor (p + bias) as an exponent of 2, negated. Where the factor is not of ordinary size
 * its product with the bias alone may overflow where the sum does not. */
struct affine {
    float factor, addend; /* ordinary */
    float bias, scale;    /* not */
    int ordinary;
};

static inline struct affine affine_of(const struct epilogue *e, int64_t channel)
{
    const float bias = e->bias[channel * e->bias_step], factor = -e->scaling_factor * LOG2_E;
    return (struct affine){.factor = factor,
                           .addend = factor * bias,
                           .bias = bias,
                           .scale = -e->scaling_factor,
                           .ordinary = fabsf(e->scaling_factor) < 0x1p60f && fabsf(bias) < 0x1p60f};
}

static inline __attribute__((always_inline)) vf sigmoid(int ordinary, const struct affine *a, vf e,
                                                        vf reciprocal)
{
    const vf p = e * reciprocal;
    const vf t = ordinary ? vf_fma(p, vf_set(a->factor), vf_set(a->addend))
                          : clamp((p + a->bias) * a->scale) * LOG2_E;
    return vf_reciprocal(vf_exp2(clamp(t)) + 1.0f);
}

/* Two vectors, element by element in turn, to `to`. */
static inline void store_interleaved(float *to, vf even, vf odd)
{
#if defined(ISA_avx512)
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high =
        _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    vf_store(to, _mm512_permutex2var_ps(even, low, odd));
    vf_store(to + VF_LANES, _mm512_permutex2var_ps(even, high, odd));
#elif defined(ISA_avx2)
    const vf low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    vf_store(to, _mm256_permute2f128_ps(low, high, 0x20));
    vf_store(to + VF_LANES, _mm256_permute2f128_ps(low, high, 0x31));
#elif defined(ISA_sse2)
    vf_store(to, _mm_unpacklo_ps(even, odd));
    vf_store(to + VF_LANES, _mm_unpackhi_ps(even, odd));
#else
    for (int i = 0; i < VF_LANES; i++) {
        to[2 * i] = even[i];
        to[2 * i + 1] = odd[i];
    }
#endif
}

static inline __attribute__((always_inline)) void sigmoid_row(int ordinary, const struct affine *a,
                                                              const struct sigmoid_row *r)
{
    const int64_t n = r->positions;
    if (r->phases == 1 && r->step == 1 && r->place[0] == 0) {
        for (int64_t i = 0; i < n; i += VF_LANES)
            vf_store(r->line + i,
                     sigmoid(ordinary, a, vf_load(r->c[0] + i), vf_load(r->reciprocal[0] + i)));
        return;
    }
    if (r->phases == 2 && r->step == 2) {
        const int first = r->place[0] == 0 ? 0 : 1;
        const float *c0 = r->c[first], *c1 = r->c[!first];
        const float *r0 = r->reciprocal[first], *r1 = r->reciprocal[!first];
        float *line0 = r->line + r->place[first];
        if (r->place[!first] == 1) {
            for (int64_t i = 0; i < n; i += VF_LANES)
                store_interleaved(line0 + 2 * i,
                                  sigmoid(ordinary, a, vf_load(c0 + i), vf_load(r0 + i)),
                                  sigmoid(ordinary, a, vf_load(c1 + i), vf_load(r1 + i)));
            return;
        }
    }
    for (int64_t i = 0; i < n; i += VF_LANES)
        for (int64_t phase = 0; phase < r->phases; phase++) {
            const vf y =
                sigmoid(ordinary, a, vf_load(r->c[phase] + i), vf_load(r->reciprocal[phase] + i));
            float *to = r->line + i * r->step + r->place[phase];
            for (int lane = 0; lane < VF_LANES; lane++)
                to[lane * r->step] = y[lane];
        }
}

static void sigmoid_f32(const struct epilogue *e, int64_t channel, const struct sigmoid_row *r)
{
    const struct affine a = affine_of(e, channel);
    if (a.ordinary)
        sigmoid_row(1, &a, r);
    else
        sigmoid_row(0, &a, r);
}

/* n floats to memory that is not read again soon: whole vectors past the caches. */
static void stream_f32(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
#if defined(__x86_64__)
    const int64_t ahead = (int64_t)((64 - ((uintptr_t)to & 63)) & 63) / 4;
    for (; i < ahead && i < n; i++)
        to[i] = from[i];
    for (; i + 16 <= n; i += 16) {
#if defined(ISA_avx512)
        _mm512_stream_ps(to + i, vf_load(from + i));
#elif defined(ISA_avx2)
        _mm256_stream_ps(to + i, vf_load(from + i));
        _mm256_stream_ps(to + i + 8, vf_load(from + i + 8));
#else
        for (int j = 0; j < 16; j += 4)
            _mm_stream_ps(to + i + j, vf_load(from + i + j));
#endif
    }
#endif
    for (; i < n; i++)
        to[i] = from[i];
}

#endif
