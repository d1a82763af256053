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

/* Of n >= 1 samples, which are not changed. Up to MEASUREMENT_SAMPLES are sorted; of more, each
 * order statistic takes some tens of passes. */
struct median median_of(const double *samples, int64_t n, double confidence);

/* How much slower b is than a: b / a with its confidence interval. */
struct ratio {
    double ratio, low, high;
    int64_t n; /* pairs, or samples of the smaller side */
};

/* Most samples of a side that are used one by one; more are first made into this many medians of
 * neighbours, because neighbours are not independent. */
#define RATIO_SAMPLES 60

/* Of paired samples (a[i] and b[i] taken one after the other, so that both saw the same machine):
 * the Hodges-Lehmann estimate of the median of log(b[i] / a[i]), with the interval of Wilcoxon's
 * signed-rank test: order statistics of the averages of all pairs of differences. Distribution-free
 * where the differences are symmetric about their median, which they are by construction when a and
 * b are the same code in random order. Hollander, Wolfe and Chicken, "Nonparametric Statistical
 * Methods", 3rd ed., sections 3.2 and 3.3. With fewer than 8 pairs at 99 % (6 at 95 %) the interval
 * is [0, infinity).
 *
 * NOTE: give it the minimum of each round, not the median: what disturbs a run only ever adds time
 * (Chen and Revels, "Robust benchmarking in noisy environments", 2016). With two busy processes
 * beside it on two cores, a 1.4 ms run's interval was 5 % wide by minima and 49 % by medians. */
struct ratio ratio_paired(const double *a, const double *b, int64_t n, double confidence);

/* Of independent samples: the Hodges-Lehmann estimate of the shift between log b and log a, with
 * the interval of the Mann-Whitney test: order statistics of all differences. Distribution-free
 * where b is a scaled. The same book, sections 4.2 and 4.3. NOTE: the interval knows nothing of
 * what differs between runs; that is what the calibrated noise of a machine is for. */
struct ratio ratio_unpaired(const double *a, int64_t na, const double *b, int64_t nb,
                            double confidence);

/* Medians, or minima, of `blocks` runs of neighbours; returns how many there are: min(n, blocks).
 */
int64_t block_medians(const double *samples, int64_t n, int64_t blocks, double *medians);
int64_t block_minima(const double *samples, int64_t n, int64_t blocks, double *minima);

/* What a ratio says where identical code may differ by `noise` (0.01: by 1 %). */
enum change {
    CHANGE_SAME,     /* the whole interval lies within the noise */
    CHANGE_FASTER,   /* ... below it */
    CHANGE_SLOWER,   /* ... above it */
    CHANGE_UNDECIDED /* it straddles: more samples are needed */
};
enum change change_decide(const struct ratio *ratio, double noise);
const char *change_name(enum change change); /* "SAME", ... */

/* The q-quantile (0 to 1) of n >= 1 values, interpolated. Sorts them. */
double quantile(double *values, int64_t n, double q);

/* A stage's seconds beside the median: its share of the samples' time, of the median. mean_s is the
 * mean over the same n >= 1 samples. */
double measurement_stage(const double *samples, int64_t n, double mean_s);

/* True when the plan asks for no further sample; elapsed_s since the first. */
bool measurement_complete(const struct measurement_plan *plan, const double *samples, int64_t n,
                          double elapsed_s);

#endif
