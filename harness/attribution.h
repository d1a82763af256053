/* What a wrong output looks like: it is held against the outputs of the wrong kernels of
 * ref/mutants.h, on one image. */
#ifndef ASSAY_HARNESS_ATTRIBUTION_H
#define ASSAY_HARNESS_ATTRIBUTION_H

#include "ref/mutants.h"

struct attribution {
    const struct mutant *mutant; /* NULL: it looks like none of them */
    /* Share of the squared error that is gone when the output is compared with the mutant's instead
     * of the true one; 1 is a perfect match, ATTRIBUTION_LEAST the least that is reported. */
    double explained;
};
#define ATTRIBUTION_LEAST 0.9
#define ATTRIBUTION_SECONDS 10.0 /* spent on an output that failed */

/* x is the whole batch, got [Cout, Ho, Wo] the output of image n. Looks for budget_s seconds at
 * most. STATUS_ENVIRONMENT when memory is lacking. */
enum status attribute(const struct problem *problem, const struct params *params, const float *x,
                      int64_t n, const float *got, double budget_s, struct attribution *attribution,
                      struct error *error);

/* "every image computed from image 0 (99.9 % of the error explained)"; empty where it is NULL. */
void attribution_describe(const struct attribution *attribution, char *text, size_t size);

#endif
