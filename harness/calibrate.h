/* Calibration: what identical code differs by on this machine. A/A: one implementation, twice, each
 * time in two new processes, timed in turn as any two are that are compared. */
#ifndef ASSAY_HARNESS_CALIBRATE_H
#define ASSAY_HARNESS_CALIBRATE_H

#include "harness/comparison.h"
#include "harness/record.h"

/* Comparisons below which nothing is said about rare events. */
#define CALIBRATE_PAIRS_LEAST 4

struct calibration {
    int64_t pairs, rounds; /* rounds: of one pair, on average */
    double known_noise;    /* what the comparisons were judged by: of an earlier calibration */
    int64_t slower, faster, undecided, same; /* of the pairs, so judged */
    int64_t slower_bare;                     /* SLOWER by the interval alone, without any noise */

    /* The smallest noise that makes none of the pairs, and none of them with its sides exchanged,
     * SLOWER: the largest of every interval's end nearer to 1, less 1; at least NOISE_LEAST. A new
     * comparison of identical code exceeds the largest of 2 pairs ones with a probability of
     * 1 / (2 pairs + 1). */
    double interleaved_noise, separate_noise;

    /* The smallest slowdown that is found in 95 % of comparisons: (1 + noise) over the 5 % quantile
     * of the intervals' lower ends, less 1. Exact because a slowdown scales the interval. */
    double smallest_visible, smallest_visible_separate;

    double seconds; /* that one comparison took */
    double *ratios; /* of each pair: ratio, low, high */
};
#define NOISE_LEAST 0.005

/* Calibrates each implementation of the list on each case: prints a table, and appends a record
 * each to `path` where not NULL. `known`: earlier calibrations. */
enum status calibrate(const struct record_context *record, const struct measurement_plan *plan,
                      int64_t rounds, int64_t pairs, struct record_set *known, const char *path,
                      bool json, struct error *error);

#endif
