#include "harness/attribution.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/clock.h"

/* Sum of squared differences; a NaN on one side alone counts as 1, as much as any error can. */
static double squared_distance(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
#pragma omp parallel for schedule(static) reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        if (isnan(a[i]) || isnan(b[i]))
            sum += isnan(a[i]) && isnan(b[i]) ? 0.0 : 1.0;
        else
            sum += a[i] == b[i] ? 0.0 : fmin(d * d, 1.0);
    }
    return sum;
}

enum status attribute(const struct problem *p, const struct params *params, const float *x,
                      int64_t n, const float *got, double budget_s, struct attribution *best,
                      struct error *error)
{
    const double start = clock_seconds();
    const int64_t elements = problem_output_image(p);
    struct mutant_engine *engine = NULL;
    double whole = 0.0;
    *best = (struct attribution){.explained = ATTRIBUTION_LEAST};
    float *y = malloc((size_t)elements * sizeof *y);
    enum status status = y ? mutant_engine_create(&engine, p, params, error)
                           : error_set(error, STATUS_ENVIRONMENT, "out of memory for one image");
    for (size_t i = 0; i < mutant_count && status == STATUS_OK; i++) {
        const struct mutant *m = &mutant_table[i];
        if (clock_seconds() - start > budget_s)
            break;
        status = mutant_run(engine, m, x, n, y, error);
        if (status != STATUS_OK)
            break;
        if (whole == 0.0)
            whole = squared_distance(got, mutant_truth(engine), elements);
        if (!(whole > 0.0))
            break;
        const double explained = 1.0 - squared_distance(got, y, elements) / whole;
        if (explained > best->explained)
            *best = (struct attribution){m, explained};
    }
    mutant_engine_free(engine);
    free(y);
    return status;
}

void attribution_describe(const struct attribution *a, char *text, size_t size)
{
    if (a->mutant)
        snprintf(text, size, "%s (%.4g %% of the error explained)", a->mutant->summary,
                 100.0 * a->explained);
    else if (size)
        text[0] = 0;
}
