/* Seeded random problems: small, odd ones over all that ConvTranspose2d takes.
 *
 * Problem (seed, index) is a function of the two alone (Philox4x32-10, as ref/fill.h), so one line
 * names it on any machine: `random:SEED/INDEX`. Sizes, channel counts and attributes are drawn from
 * short lists around the edges where kernels go wrong: 1, primes, powers of two and their
 * neighbours, more stride than kernel, more padding than input. One in eight has the home case's
 * kernel, stride and padding. */
#ifndef ASSAY_REF_RANDOM_PROBLEM_H
#define ASSAY_REF_RANDOM_PROBLEM_H

#include "ref/problem.h"

/* Always valid; at most RANDOM_PROBLEM_FLOPS operations and RANDOM_PROBLEM_OUTPUTS outputs. */
#define RANDOM_PROBLEM_FLOPS 4e7
#define RANDOM_PROBLEM_OUTPUTS ((int64_t)1 << 18)
struct problem random_problem(uint64_t seed, int64_t index);

#define RANDOM_PREFIX "random:"

/* Reads `random:SEED/INDEX`, or `random:SEED/FIRST-LAST` (both included). STATUS_BAD_INPUT
 * otherwise. */
enum status random_problem_parse(const char *text, uint64_t *seed, int64_t *first, int64_t *last,
                                 struct error *error);

#endif
