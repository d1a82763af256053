/* Verdicts counted and printed: what verify, bench and check share. */
#ifndef ASSAY_HARNESS_TALLY_H
#define ASSAY_HARNESS_TALLY_H

#include "harness/trial.h"

struct tally {
    int64_t counts[VERDICT_SKIPPED + 1];
    int64_t bad_input;     /* of those that crashed */
    char skip_reason[256]; /* the first one's */
    bool more_reasons;     /* others were skipped for other reasons */
};

void tally_add(struct tally *tally, const struct trial *trial);

/* The first columns of a line: mark, verdict, implementation, case. */
void tally_print_verdict(const struct trial *trial, const char *case_name);

/* A line that says so, where runs of the same input differed. */
void tally_print_repeats(const struct trial *trial);

/* "3 pass, 1 fail, 10 skipped (no CUDA device)". */
void tally_print(const struct tally *tally);

/* STATUS_FAILED when anything failed, crashed or timed out; STATUS_BAD_INPUT when that is only what
 * could not be run at all. */
int tally_status(const struct tally *tally);

#endif
