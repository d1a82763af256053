/* Statistics of timing samples. */
#ifndef ASSAY_HARNESS_STATISTICS_H
#define ASSAY_HARNESS_STATISTICS_H

#include "harness/measurement.h"

/* A median with a distribution-free confidence interval: the order statistics whose ranks leave at
 * most (1 - confidence) / 2 of the binomial distribution B(n, 1/2) on either side (e.g. Hahn and
 * Meeker, "Statistical Intervals", section 5.2). With too few samples for the confidence (fewer
 * than 6 at 95 %) the interval is the range. */
struct median {
    double median, low, high;
};

/* Of n >= 1 samples, which are not changed; n <= MEASUREMENT_SAMPLES. */
struct median median_of(const double *samples, int64_t n, double confidence);

/* True when the plan asks for no further sample; elapsed_s since the first. */
bool measurement_complete(const struct measurement_plan *plan, const double *samples, int64_t n,
                          double elapsed_s);

#endif
