/* What bench says about implementations that were timed in turn: each against the first of its
 * case, or against itself in another build. */
#ifndef ASSAY_HARNESS_BENCH_GATE_H
#define ASSAY_HARNESS_BENCH_GATE_H

#include "harness/comparison.h"
#include "harness/record.h"

struct bench_gate {
    const char *baseline; /* an implementation; NULL: the trials of `against` are the base */
    const char *against;  /* another build */
    double threshold;     /* SLOWER beyond it counts */
    bool json;
    const struct record_context *record;
    struct record_set known; /* holds calibrations */
    struct trial base;       /* the case's, as soon as it is seen */
    char base_case[512];
    int64_t compared, slower, undecided;
    double log_sum;
};

/* Reads calibrations from `records` (a file or folder) where it is there. */
enum status bench_gate_init(struct bench_gate *gate, const struct record_context *record,
                            const char *records, struct error *error);
void bench_gate_release(struct bench_gate *gate);

/* For struct interleaving; context: the gate. True when no comparison is UNDECIDED. NOTE: three
 * looks at 99 % are together a little less than 98.5 % sure, before the noise is added. */
struct contender;
bool bench_gate_enough(void *context, const struct contender *contenders, size_t count);

/* Takes a trial: keeps it where it is a base, else compares it and prints a line. */
void bench_gate_visit(struct bench_gate *gate, const struct case_source *source,
                      const struct trial *trial);

/* The last line: the geometric mean. */
void bench_gate_finish(const struct bench_gate *gate);

#endif
