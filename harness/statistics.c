#include "harness/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest k with P(B(n, 1/2) < k) <= tail: the interval runs from the k-th smallest sample to the
 * k-th largest. 0 where even the range does not reach the confidence. */
static int64_t interval_rank(int64_t n, double tail)
{
    double log_choose = 0.0, sum = 0.0;
    for (int64_t k = 0; k < n; k++) {
        sum += exp(log_choose - (double)n * log(2.0));
        if (sum > tail)
            return k;
        log_choose += log((double)(n - k)) - log((double)(k + 1));
    }
    return 0;
}

struct median median_of(const double *samples, int64_t n, double confidence)
{
    double sorted[MEASUREMENT_SAMPLES];
    memcpy(sorted, samples, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    const int64_t k = interval_rank(n, 0.5 * (1.0 - confidence));
    const int64_t low = k > 0 ? k - 1 : 0;
    return (struct median){.median =
                               n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
                           .low = sorted[low],
                           .high = sorted[n - 1 - low]};
}

bool measurement_complete(const struct measurement_plan *plan, const double *samples, int64_t n,
                          double elapsed_s)
{
    if (n >= MEASUREMENT_SAMPLES)
        return true;
    if (plan->samples > 0)
        return n >= plan->samples;
    if (n < plan->min_samples)
        return false;
    if (elapsed_s >= plan->budget_s)
        return true;
    const struct median m = median_of(samples, n, 0.95);
    return n >= 6 && m.high - m.median <= plan->half_width * m.median &&
           m.median - m.low <= plan->half_width * m.median;
}
