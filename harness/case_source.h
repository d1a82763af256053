/* A case: where its problem and its tensors come from. CASE on the command line is
 *
 *     a case file         *.h5, or anything with a slash in it, or that exists
 *     a descriptor        mb1ic3..., or a name (`home`, `home@mbN`): filled by a fill and a seed
 *     random:SEED/INDEX   a seeded random problem (ref/random_problem.h), filled with
 *                         fill number INDEX mod their count, seed SEED + INDEX */
#ifndef ASSAY_HARNESS_CASE_SOURCE_H
#define ASSAY_HARNESS_CASE_SOURCE_H

#include "harness/arena.h"
#include "harness/case_file.h"
#include "ref/fill.h"

struct case_source {
    char name[512]; /* as given, or the suite's name for it */
    char text[512]; /* what opens it again: a path or a descriptor */
    char descriptor[512];
    struct problem problem;
    struct case_file *file; /* NULL: filled */
    const struct fill *fill;
    uint64_t seed;
    bool complete; /* `text` alone says fill and seed */
};

/* Opens a case file or parses a descriptor; `fill` and `seed` are for descriptors. */
enum status case_source_open(struct case_source *source, const char *text, const struct fill *fill,
                             uint64_t seed, struct error *error);
void case_source_release(struct case_source *source);

/* Weight, conv_bias (may be NULL where the problem has none) and bias. */
enum status case_source_params(const struct case_source *source, float *weight, float *conv_bias,
                               float *bias, struct error *error);

/* Images [first, first + count) of x. */
enum status case_source_input(const struct case_source *source, int64_t first, int64_t count,
                              float *x, struct error *error);

/* All tensors into an arena made for source->problem. */
enum status case_source_load(const struct case_source *source, struct arena *arena,
                             struct error *error);

#endif
