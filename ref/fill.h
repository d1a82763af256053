/* Seeded tensor fills.
 *
 * Every element is a function of (fill, seed, tensor, index) alone, through the counter-based
 * generator Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011; Random123's implementation). So any image can be made on its own, by any
 * number of threads, on any machine, with the same bits.
 *
 *     words = philox4x32(counter = {index low, index high, tensor, fill}, key = {seed low, high})
 */
#ifndef ASSAY_REF_FILL_H
#define ASSAY_REF_FILL_H

#include "ref/problem.h"

struct fill {
    const char *name;
    const char *summary;
    bool finite; /* false: the tensors hold NaN or infinities */
    /* The rest is ref/fill.c's. */
    const struct fill_rules *rules;
};

/* The table; `conditioned` is the default for verification. */
extern const struct fill fill_table[];
extern const size_t fill_count;

/* STATUS_OK, or STATUS_BAD_INPUT with the names that exist. */
enum status fill_find(const char *name, const struct fill **fill, struct error *error);

/* Writes weight [Cin, Cout/groups, kH, kW], conv_bias [Cout] (skipped when the problem has none;
 * may then be NULL) and bias [bias_count]. */
void fill_params(const struct fill *fill, const struct problem *problem, uint64_t seed,
                 float *weight, float *conv_bias, float *bias);

/* Writes images [first, first + count) of x to `x`, on the OpenMP threads of the caller. */
void fill_input(const struct fill *fill, const struct problem *problem, uint64_t seed,
                int64_t first, int64_t count, float *x);

#endif
