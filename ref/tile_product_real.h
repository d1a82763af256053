/* The body of ref/tile_product.h for one element type: REAL, VECTOR, SUFFIX(name), and SET, LOAD,
 * STORE, FMA of that vector. Included once for each, therefore without a guard. */

#define LANES ((int64_t)(sizeof(VECTOR) / sizeof(REAL)))

/* NOTE: everything here must be unrolled and held in registers; rows and vectors are constants in
 * every call. */
static inline __attribute__((always_inline)) void
SUFFIX(tile)(int rows, int vectors, const REAL *weights, const REAL *x, const int64_t *offsets,
             int64_t k, REAL *c, int64_t pitch, const REAL *initial, int64_t initial_step)
{
    VECTOR sum[TILE_ROWS][TILE_VECTORS_FLAT];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (VECTOR){0};
    for (int64_t l = 0; l < k; l++, weights += rows) {
        VECTOR in[TILE_VECTORS_FLAT];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            in[v] = LOAD(x + offsets[l] + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const VECTOR w = SET(weights[i]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[i][v] = FMA(w, in[v], sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            REAL *to = c + i * pitch + v * LANES;
            const VECTOR before = initial ? SET(initial[i * initial_step]) : LOAD(to);
            STORE(to, before + sum[i][v]);
        }
}

typedef void SUFFIX(tile_function)(const REAL *weights, const REAL *x, const int64_t *offsets,
                                   int64_t k, REAL *c, int64_t pitch, const REAL *initial,
                                   int64_t initial_step);

/* clang-format off */
#define TILE(rows, vectors)                                                                        \
    static void SUFFIX(tile_##rows##x##vectors)(const REAL *weights, const REAL *x,                \
                                                const int64_t *offsets, int64_t k, REAL *c,        \
                                                int64_t pitch, const REAL *initial, int64_t step)  \
    {                                                                                              \
        SUFFIX(tile)(rows, vectors, weights, x, offsets, k, c, pitch, initial, step);              \
    }
#define TALL(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
#define FLAT(rows) TALL(rows) TILE(rows, 4) TILE(rows, 5) TILE(rows, 6)
#define NAME(rows, vectors) SUFFIX(tile_##rows##x##vectors)
#define TALL_NAMES(rows) NAME(rows, 1), NAME(rows, 2), NAME(rows, 3)
#define FLAT_NAMES(rows) TALL_NAMES(rows), NAME(rows, 4), NAME(rows, 5), NAME(rows, 6)
FLAT(1)
FLAT(2)
#if TILE_ROWS == 8
FLAT(4)
TALL(8)
#else
TALL(4)
#endif

/* By rows 2^i and vectors - 1. */
static SUFFIX(tile_function) *const SUFFIX(tiles)[TILE_SIZES][TILE_VECTORS_FLAT] = {
    {FLAT_NAMES(1)},
    {FLAT_NAMES(2)},
#if TILE_ROWS == 8
    {FLAT_NAMES(4)},
    {TALL_NAMES(8)},
#else
    {TALL_NAMES(4)},
#endif
};
#undef TILE
#undef TALL
#undef FLAT
#undef NAME
#undef TALL_NAMES
#undef FLAT_NAMES
/* clang-format on */

static void SUFFIX(product)(const struct SUFFIX(tile_product) * t)
{
    const int64_t whole_rows = t->rows / TILE_ROWS * TILE_ROWS;
    const int64_t vectors = (t->positions + LANES - 1) / LANES;
    const int64_t stride = t->row_step * t->pitch;
    const int64_t blocks = t->depth ? (t->depth + TILE_DEPTH - 1) / TILE_DEPTH : 1;
    const int64_t most = (t->depth + blocks - 1) / blocks;
    for (int64_t block = 0, k0 = 0; block < blocks; block++, k0 += most) {
        const int64_t depth = t->depth - k0 < most ? t->depth - k0 : most;
        const int64_t *offsets = t->offsets + k0;
        const REAL *initial = k0 == 0 ? t->initial : NULL;
        for (int64_t v = 0; v < vectors; v += TILE_VECTORS) {
            const int64_t n = vectors - v < TILE_VECTORS ? vectors - v : TILE_VECTORS;
            SUFFIX(tile_function) *const whole = SUFFIX(tiles)[TILE_SIZES - 1][n - 1];
            for (int64_t m = 0; m < whole_rows; m += TILE_ROWS)
                whole(t->weights + m * t->k + (t->first + k0) * TILE_ROWS, t->x + v * LANES,
                      offsets, depth, t->c + m * stride + v * LANES, stride,
                      initial ? initial + m * t->row_step : NULL, t->row_step);
        }
        int64_t m = whole_rows;
        for (int size = TILE_SIZES - 2; size >= 0; size--) {
            const int64_t rows = (int64_t)1 << size;
            if (!(t->rows & rows))
                continue;
            for (int64_t v = 0; v < vectors; v += TILE_VECTORS_FLAT) {
                const int64_t n = vectors - v < TILE_VECTORS_FLAT ? vectors - v : TILE_VECTORS_FLAT;
                SUFFIX(tiles)
                [size][n - 1](t->weights + m * t->k + (t->first + k0) * rows, t->x + v * LANES,
                              offsets, depth, t->c + m * stride + v * LANES, stride,
                              initial ? initial + m * t->row_step : NULL, t->row_step);
            }
            m += rows;
        }
    }
}

/* weights [rows][k] as the tiles read them: [tile][k][row of the tile]. */
static void SUFFIX(pack)(const REAL *from, int64_t rows, int64_t k, REAL *to)
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

#undef LANES
