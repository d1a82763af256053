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

/* The k-th smallest of the samples, counted from 0: the range that it lies in is halved until one
 * value is left. Passes over the samples, because a sorted copy of any number of them needs memory,
 * and no caller could be told that there is none. */
static double order_statistic(const double *samples, int64_t n, int64_t k)
{
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        low = fmin(low, samples[i]);
        high = fmax(high, samples[i]);
    }
    while (low < high) {
        double middle = low + 0.5 * (high - low), below = low, above = high;
        int64_t count = 0;
        if (middle >= high) /* rounded up, between neighbours */
            middle = low;
        for (int64_t i = 0; i < n; i++)
            if (samples[i] > middle) {
                above = fmin(above, samples[i]);
            } else {
                below = fmax(below, samples[i]);
                count++;
            }
        if (count > k)
            high = below;
        else
            low = above;
    }
    return low;
}

struct median median_of(const double *samples, int64_t n, double confidence)
{
    const int64_t k = interval_rank(n, 0.5 * (1.0 - confidence)), low = k > 0 ? k - 1 : 0;
    const int64_t ranks[] = {low, (n - 1) / 2, n / 2, n - 1 - low};
    double sorted[MEASUREMENT_SAMPLES], at[4];
    const bool fits = n <= MEASUREMENT_SAMPLES;
    if (fits) {
        memcpy(sorted, samples, (size_t)n * sizeof *sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    }
    for (int i = 0; i < 4; i++)
        at[i] = fits ? sorted[ranks[i]] : order_statistic(samples, n, ranks[i]);
    return (struct median){.median = 0.5 * (at[1] + at[2]), .low = at[0], .high = at[3]};
}

int64_t block_medians(const double *samples, int64_t n, int64_t blocks, double *medians)
{
    const int64_t count = n < blocks ? n : blocks;
    if (n > 0 && count == n) { /* of one each */
        memcpy(medians, samples, (size_t)n * sizeof *medians);
        return n;
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t from = i * n / count, to = (i + 1) * n / count;
        medians[i] = median_of(samples + from, to - from, 0.5).median;
    }
    return count;
}

int64_t block_minima(const double *samples, int64_t n, int64_t blocks, double *minima)
{
    const int64_t count = n < blocks ? n : blocks;
    for (int64_t i = 0; i < count; i++) {
        minima[i] = INFINITY;
        for (int64_t k = i * n / count; k < (i + 1) * n / count; k++)
            minima[i] = fmin(minima[i], samples[k]);
    }
    return count;
}

double quantile(double *values, int64_t n, double q)
{
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    const double place = q * (double)(n - 1);
    const int64_t i = (int64_t)place;
    return i + 1 < n ? values[i] + (place - (double)i) * (values[i + 1] - values[i]) : values[i];
}

/* Largest k with P(T <= k - 1) <= tail, for counts[t] of `total` equally likely outcomes T = t. */
static int64_t rank_of_counts(const double *counts, int64_t n, double total, double tail)
{
    double sum = 0.0;
    int64_t k = 0;
    for (; k < n; k++) {
        sum += counts[k] / total;
        if (sum > tail)
            break;
    }
    return k;
}

/* z with P(Z <= -z) = tail, for 1e-10 < tail < 0.5, by bisection. */
static double normal_quantile(double tail)
{
    double low = 0.0, high = 8.0;
    for (int i = 0; i < 60; i++) {
        const double z = 0.5 * (low + high);
        *(0.5 * erfc(z / sqrt(2.0)) > tail ? &low : &high) = z;
    }
    return low;
}

static int64_t normal_rank(double mean, double variance, double tail)
{
    const double k = floor(mean - normal_quantile(tail) * sqrt(variance));
    return k > 0.0 ? (int64_t)k : 0;
}

/* T+: the sum of the ranks of the positive differences, each rank in or out with 1/2. */
static int64_t signed_rank(int64_t n, double tail)
{
    double counts[RATIO_SAMPLES * (RATIO_SAMPLES + 1) / 2 + 1] = {1.0};
    const int64_t sums = n * (n + 1) / 2 + 1;
    for (int64_t rank = 1; rank <= n; rank++)
        for (int64_t t = rank * (rank + 1) / 2; t >= rank; t--)
            counts[t] += counts[t - rank];
    return rank_of_counts(counts, sums, pow(2.0, (double)n), tail);
}

/* U: pairs with b below a. Exact for small samples, by the recurrence of Mann and Whitney (1947);
 * the normal approximation is good to a rank beyond. */
#define EXACT 12
static int64_t mann_whitney(int64_t na, int64_t nb, double tail)
{
    if (na > EXACT || nb > EXACT)
        return normal_rank(0.5 * (double)(na * nb),
                           (double)na * (double)nb * (double)(na + nb + 1) / 12.0, tail);
    static const int64_t width = EXACT * EXACT + 1;
    double counts[EXACT + 1][EXACT * EXACT + 1] = {{0.0}}; /* [i] for i of a and j of b */
    double total = 1.0;
    for (int64_t i = 0; i <= na; i++)
        counts[i][0] = 1.0; /* j = 0 */
    for (int64_t j = 1; j <= nb; j++)
        for (int64_t i = 1; i <= na;
             i++) /* count(i, j, u) = count(i-1, j, u-j) + count(i, j-1, u) */
            for (int64_t u = width - 1; u >= j; u--)
                counts[i][u] += counts[i - 1][u - j];
    for (int64_t i = 1; i <= nb; i++)
        total *= (double)(na + i) / (double)i;
    return rank_of_counts(counts[na], na * nb + 1, total, tail);
}

/* The estimate and the interval from all differences of logarithms. */
static struct ratio ratio_of(double *differences, int64_t count, int64_t rank, int64_t n)
{
    struct ratio r = {.low = 0.0, .high = INFINITY, .n = n};
    qsort(differences, (size_t)count, sizeof *differences, compare_doubles);
    const int64_t middle = count / 2;
    r.ratio = exp(count % 2 ? differences[middle]
                            : 0.5 * (differences[middle - 1] + differences[middle]));
    if (rank > 0) {
        r.low = exp(differences[rank - 1]);
        r.high = exp(differences[count - rank]);
    }
    return r;
}

struct ratio ratio_paired(const double *a, const double *b, int64_t n, double confidence)
{
    double logs[MEASUREMENT_SAMPLES], d[RATIO_SAMPLES],
        averages[RATIO_SAMPLES * (RATIO_SAMPLES + 1) / 2];
    for (int64_t i = 0; i < n; i++)
        logs[i] = log(b[i] / a[i]);
    const int64_t m = block_medians(logs, n, RATIO_SAMPLES, d);
    int64_t count = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = i; k < m; k++)
            averages[count++] = 0.5 * (d[i] + d[k]);
    return ratio_of(averages, count, signed_rank(m, 0.5 * (1.0 - confidence)), m);
}

struct ratio ratio_unpaired(const double *a, int64_t na, const double *b, int64_t nb,
                            double confidence)
{
    double x[RATIO_SAMPLES], y[RATIO_SAMPLES], differences[RATIO_SAMPLES * RATIO_SAMPLES];
    const int64_t m = block_medians(a, na, RATIO_SAMPLES, x),
                  n = block_medians(b, nb, RATIO_SAMPLES, y);
    for (int64_t i = 0; i < m; i++)
        x[i] = log(x[i]);
    for (int64_t i = 0; i < n; i++)
        y[i] = log(y[i]);
    int64_t count = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < n; k++)
            differences[count++] = y[k] - x[i];
    return ratio_of(differences, count, mann_whitney(m, n, 0.5 * (1.0 - confidence)),
                    m < n ? m : n);
}

enum change change_decide(const struct ratio *r, double noise)
{
    const double above = 1.0 + noise, below = 1.0 / above;
    if (r->low > above)
        return CHANGE_SLOWER;
    if (r->high < below)
        return CHANGE_FASTER;
    return r->low >= below && r->high <= above ? CHANGE_SAME : CHANGE_UNDECIDED;
}

const char *change_name(enum change change)
{
    static const char *const names[] = {"SAME", "FASTER", "SLOWER", "UNDECIDED"};
    return names[change];
}

double measurement_stage(const double *samples, int64_t n, double mean_s)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += samples[i];
    return sum > 0.0 ? mean_s * (double)n / sum * median_of(samples, n, 0.5).median : 0.0;
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
