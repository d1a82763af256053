/* Where a series changed its level.
 *
 * PELT (Killick, Fearnhead and Eckley, "Optimal detection of changepoints with a linear
 * computational cost", JASA 107, 2012): the segmentation that minimises the sum of the segments'
 * costs plus a penalty for each change, found exactly by dynamic programming with pruning. The cost
 * is that of a normal mean in units of the noise, so on logarithms of times a change is a relative
 * one. */
#ifndef ASSAY_HARNESS_CHANGE_POINTS_H
#define ASSAY_HARNESS_CHANGE_POINTS_H

#include <stdint.h>

#include "ref/status.h"

/* values[0 .. n) are the levels in order, with independent noise of standard deviation `noise` > 0.
 * Segments hold at least two values: one that stands alone is an outlier and no change. The penalty
 * of a change is 3 log n (Zhang and Siegmund's modified BIC, 2007, leading term). Writes the index
 * of each segment's first value, but the first's, to changes[] (room for n) in ascending order and
 * the count to *count. */
enum status change_points(const double *values, int64_t n, double noise, int64_t *changes,
                          int64_t *count, struct error *error);

/* A robust standard deviation of the noise of a series that has few jumps: the median of the
 * absolute differences of neighbours, scaled for the normal distribution; at least `least`. */
double change_noise(const double *values, int64_t n, double least);

#endif
