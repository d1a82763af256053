#include "harness/change_points.h"

#include <math.h>
#include <stdlib.h>

#include "harness/statistics.h"

#define SEGMENT_LEAST 2

double change_noise(const double *values, int64_t n, double least)
{
    if (n < 3)
        return least;
    double *d = malloc((size_t)(n - 1) * sizeof *d);
    if (!d)
        return least;
    for (int64_t i = 0; i + 1 < n; i++)
        d[i] = fabs(values[i + 1] - values[i]);
    /* |difference| of two normals: median 0.6745 sqrt(2) sigma. */
    const double sigma = quantile(d, n - 1, 0.5) / (0.67448975 * sqrt(2.0));
    free(d);
    return fmax(sigma, least);
}

enum status change_points(const double *values, int64_t n, double noise, int64_t *changes,
                          int64_t *count, struct error *error)
{
    *count = 0;
    if (n < 2 * SEGMENT_LEAST)
        return STATUS_OK;
    const double penalty = 3.0 * log((double)n);
    const size_t room = (size_t)n + 1;
    double *sum = calloc(room, sizeof *sum), *square = calloc(room, sizeof *square),
           *best = calloc(room, sizeof *best);
    int64_t *from = calloc(room, sizeof *from), *candidates = calloc(room, sizeof *candidates);
    enum status status = STATUS_OK;
    if (!sum || !square || !best || !from || !candidates) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for change points");
        goto out;
    }
    for (int64_t i = 0; i < n; i++) { /* relative to the first, so that squares stay small */
        const double v = (values[i] - values[0]) / noise;
        sum[i + 1] = sum[i] + v;
        square[i + 1] = square[i] + v * v;
    }
    best[0] = -penalty;
    int64_t kept = 0;
    for (int64_t t = 1; t <= n; t++) {
        best[t] = INFINITY;
        if (t < SEGMENT_LEAST)
            continue;
        /* A segment may begin at t - SEGMENT_LEAST from now on. */
        if (t - SEGMENT_LEAST == 0 || t - SEGMENT_LEAST >= SEGMENT_LEAST)
            candidates[kept++] = t - SEGMENT_LEAST;
        for (int64_t k = 0; k < kept; k++) {
            const int64_t s = candidates[k];
            const double mean = sum[t] - sum[s], length = (double)(t - s);
            const double cost = square[t] - square[s] - mean * mean / length;
            if (best[s] + cost + penalty < best[t]) {
                best[t] = best[s] + cost + penalty;
                from[t] = s;
            }
        }
        /* What is worse than the best by more than a penalty can never win again. NOTE: asked of
         * the value before this one, because a segment that begins here cannot end at the next. */
        const int64_t u = t - 1;
        int64_t still = 0;
        for (int64_t k = 0; k < kept; k++) {
            const int64_t s = candidates[k];
            const double mean = sum[u] - sum[s], length = (double)(u - s);
            if (u - s < SEGMENT_LEAST ||
                best[s] + square[u] - square[s] - mean * mean / length <= best[u])
                candidates[still++] = s;
        }
        kept = still;
    }
    for (int64_t t = n; from[t] > 0; t = from[t])
        changes[(*count)++] = from[t];
    for (int64_t i = 0; i < *count / 2; i++) {
        const int64_t other = changes[*count - 1 - i];
        changes[*count - 1 - i] = changes[i];
        changes[i] = other;
    }
out:
    free(sum);
    free(square);
    free(best);
    free(from);
    free(candidates);
    return status;
}
