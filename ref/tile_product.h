/* The fp32 product of a block of positions, included by ref/strip_kernels.c for each instruction
 * set:
 *
 *     c[m, q] = initial[m] + sum over k of weights[m, k] * x[offsets[k] + q]
 *
 * x is read where it lies: a row of the matrix that an im2col would build is the padded image moved
 * by a constant, so it needs no copy, only its offset (row k of B begins at x + offsets[k]).
 *
 *                  tile: 3 vectors of positions, 48 with AVX-512
 *               +--------------------------------+
 *     8 rows    |  24 sums in registers; at each  |    k runs over TILE_DEPTH, then the sums are
 *     of c      |  k: 3 loads of x, 8 broadcasts  |    added to c: a sum in blocks, and the part of
 *               +--------------------------------+    x that a column of tiles reads stays in L1
 *
 * Loop order, outside in: TILE_DEPTH of k, columns of tiles, rows of tiles. In the innermost loop
 * the weights stream from L2, 32 bytes for 24 multiplications; the other order (weights in L1,
 * x from L2) asks for 192. Rows beyond a multiple of 8 are done in tiles of 4, 2 and 1 rows by 6
 * vectors. AVX2 and SSE2 have half the registers: 4 rows by 3 vectors.
 *
 * Every element is summed in the same order, k ascending in blocks of TILE_DEPTH, wherever in a
 * block or tile it lies. */
#ifndef ASSAY_REF_TILE_PRODUCT_H
#define ASSAY_REF_TILE_PRODUCT_H

#include "ref/strip_kernels.h"
#include "ref/vector.h"

#define TILE_DEPTH 256
#define TILE_VECTORS 3
#define TILE_VECTORS_FLAT 6 /* of tiles of fewer rows */

/* NOTE: everything here must be unrolled and held in registers; rows and vectors are constants in
 * every call. */
#define UNROLL _Pragma("GCC unroll 8")
static inline __attribute__((always_inline)) void tile(int rows, int vectors, const float *weights,
                                                       const float *x, const int64_t *offsets,
                                                       int64_t k, float *c, int64_t pitch,
                                                       const float *initial, int64_t initial_step)
{
    vf sum[TILE_ROWS][TILE_VECTORS_FLAT];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) sum[i][v] =
        (vf){0};
    for (int64_t l = 0; l < k; l++, weights += rows) {
        vf in[TILE_VECTORS_FLAT];
        UNROLL for (int v = 0; v < vectors; v++) in[v] = vf_load(x + offsets[l] + v * VF_LANES);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const vf w = vf_set(weights[i]);
            UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = vf_fma(w, in[v], sum[i][v]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)
    {
        float *to = c + i * pitch + v * VF_LANES;
        const vf before = initial ? vf_set(initial[i * initial_step]) : vf_load(to);
        vf_store(to, before + sum[i][v]);
    }
}

typedef void tile_function(const float *weights, const float *x, const int64_t *offsets, int64_t k,
                           float *c, int64_t pitch, const float *initial, int64_t initial_step);
#define TILE(rows, vectors)                                                                        \
    static void tile_##rows##x##vectors(const float *weights, const float *x,                      \
                                        const int64_t *offsets, int64_t k, float *c,               \
                                        int64_t pitch, const float *initial, int64_t initial_step) \
    {                                                                                              \
        tile(rows, vectors, weights, x, offsets, k, c, pitch, initial, initial_step);              \
    }
#define TILES_OF(rows)                                                                             \
    TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4) TILE(rows, 5) TILE(rows, 6)
#define NAMES_OF(rows)                                                                             \
    {                                                                                              \
        tile_##rows##x1, tile_##rows##x2, tile_##rows##x3, tile_##rows##x4, tile_##rows##x5,       \
            tile_##rows##x6                                                                        \
    }
TILES_OF(1)
TILES_OF(2)
#if TILE_ROWS == 8
TILE(8, 1)
TILE(8, 2)
TILE(8, 3) TILES_OF(4)
#else
TILE(4, 1)
TILE(4, 2)
TILE(4, 3)
#endif

    /* By rows 2^i and vectors - 1. */
    static tile_function *const tiles[][TILE_VECTORS_FLAT] = {
        NAMES_OF(1),
        NAMES_OF(2),
#if TILE_ROWS == 8
        NAMES_OF(4),
        {tile_8x1, tile_8x2, tile_8x3},
#else
        {tile_4x1, tile_4x2, tile_4x3},
#endif
};
#define TILE_SIZES ((int)(sizeof tiles / sizeof *tiles))

static void product_f32(const struct tile_product *t)
{
    const int64_t whole_rows = t->rows / TILE_ROWS * TILE_ROWS;
    const int64_t vectors = (t->positions + VF_LANES - 1) / VF_LANES;
    const int64_t stride = t->row_step * t->pitch;
    const int64_t blocks = t->depth ? (t->depth + TILE_DEPTH - 1) / TILE_DEPTH : 1;
    const int64_t most = (t->depth + blocks - 1) / blocks;
    for (int64_t block = 0, k0 = 0; block < blocks; block++, k0 += most) {
        const int64_t depth = t->depth - k0 < most ? t->depth - k0 : most;
        const int64_t *offsets = t->offsets + k0;
        const float *initial = k0 == 0 ? t->initial : NULL;
        for (int64_t v = 0; v < vectors; v += TILE_VECTORS) {
            const int64_t n = vectors - v < TILE_VECTORS ? vectors - v : TILE_VECTORS;
            tile_function *const whole = tiles[TILE_SIZES - 1][n - 1];
            for (int64_t m = 0; m < whole_rows; m += TILE_ROWS)
                whole(t->weights + m * t->k + (t->first + k0) * TILE_ROWS, t->x + v * VF_LANES,
                      offsets, depth, t->c + m * stride + v * VF_LANES, stride,
                      initial ? initial + m * t->row_step : NULL, t->row_step);
        }
        int64_t m = whole_rows;
        for (int size = TILE_SIZES - 2; size >= 0; size--) {
            const int64_t rows = (int64_t)1 << size;
            if (!(t->rows & rows))
                continue;
            for (int64_t v = 0; v < vectors; v += TILE_VECTORS_FLAT) {
                const int64_t n = vectors - v < TILE_VECTORS_FLAT ? vectors - v : TILE_VECTORS_FLAT;
                tiles[size][n - 1](t->weights + m * t->k + (t->first + k0) * rows,
                                   t->x + v * VF_LANES, offsets, depth,
                                   t->c + m * stride + v * VF_LANES, stride,
                                   initial ? initial + m * t->row_step : NULL, t->row_step);
            }
            m += rows;
        }
    }
}

/* weights [rows][k] as the tiles read them: [tile][k][row of the tile]. */
static void pack_f32(const float *from, int64_t rows, int64_t k, float *to)
{
    for (int64_t m = 0; m < rows;) {
        int64_t tile_rows = TILE_ROWS;
        while (tile_rows > rows - m)
            tile_rows /= 2;
        for (int64_t l = 0; l < k; l++)
            for (int64_t i = 0; i < tile_rows; i++)
                *to++ = from[(m + i) * k + l];
        m += tile_rows;
    }
}

#endif
