/* The product of a block of positions, in fp32, in fp64 and in pairs of 16-bit integers, included
 * by ref/strip_kernels.c for each instruction set:
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
 * Integers: an element of W or x is two neighbours in k, 16 bits each (the even one in the low
 * half); a multiplication takes both, so that a tile does twice the work in the same time.
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

/* Rows of tiles: 1, 2, .. TILE_ROWS. */
#define TILE_SIZES (TILE_ROWS == 8 ? 4 : 3)

#define REAL float
#define VECTOR vf
#define SUFFIX(name) name##_f32
#define SET vf_set
#define LOAD vf_load
#define STORE vf_store
#define FMA vf_fma
#include "ref/tile_product_real.h"
#undef REAL
#undef VECTOR
#undef SUFFIX
#undef SET
#undef LOAD
#undef STORE
#undef FMA

#define REAL double
#define VECTOR vd
#define SUFFIX(name) name##_f64
#define SET vd_set
#define LOAD vd_load
#define STORE vd_store
#define FMA vd_fma
#include "ref/tile_product_real.h"
#undef REAL
#undef VECTOR
#undef SUFFIX
#undef SET
#undef LOAD
#undef STORE
#undef FMA

#define REAL int32_t
#define VECTOR vi
#define SUFFIX(name) name##_i16
#define SET vi_set
#define LOAD vi_load
#define STORE vi_store
#define FMA vi_madd
#include "ref/tile_product_real.h"

#endif
