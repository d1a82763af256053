/* A case file's own /expected against the oracle. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "harness/trial.h"
#include "ref/oracle.h"

struct expected_visit {
    const struct problem *problem;
    const struct oracle *oracle;
    const struct strip_kernels *kernels;
    struct bound bound;
    const double *stored; /* one image */
    double *scratch;      /* [threads][6][pitch] */
    int64_t bad;
    struct element first; /* of the bad ones, by channel, row, column */
};

static bool comes_before(const struct element *a, const struct element *b)
{
    return a->c != b->c ? a->c < b->c : a->h != b->h ? a->h < b->h : a->w < b->w;
}

static bool visit(void *context, int thread, const struct oracle_strip *s)
{
    struct expected_visit *v = context;
    const struct oracle_arrays *a = s->arrays;
    const int64_t out_h = problem_output_h(v->problem), out_w = problem_output_w(v->problem);
    double *row = v->scratch + (int64_t)thread * 6 * a->pitch;
    const struct bound_pixels pixels = {{row, row + a->pitch},
                                        {row + 2 * a->pitch, row + 3 * a->pitch}};
    double *typical = row + 4 * a->pitch, *worst = row + 5 * a->pitch;
    v->kernels->bound_pixels(&v->bound, oracle_epilogue(v->oracle), a, &pixels);
    for (int64_t c = 0; c < a->channels; c++) {
        v->kernels->bound_row(&v->bound, oracle_epilogue(v->oracle), a, &pixels, c, typical, worst);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++) {
                const struct element e = {
                    .c = c, .h = s->oh + i * s->step_h, .w = s->ow + j * s->step_w};
                const int64_t at = s->first_position + i * s->pitch_columns + j;
                const double y = a->expected[c * a->pitch + at];
                const double got = v->stored[(c * out_h + e.h) * out_w + e.w];
                if (worst[at] == INFINITY || (isnan(y) && isnan(got)) || fabs(got - y) <= worst[at])
                    continue;
#pragma omp critical(expected_mismatch)
                {
                    if (v->bad++ == 0 || comes_before(&e, &v->first)) {
                        v->first = e;
                        v->first.expected = y;
                        v->first.got = got;
                        v->first.worst = worst[at];
                    }
                }
            }
    }
    return true;
}

enum status expected_check(const struct case_source *source, const struct arena *arena,
                           struct error *error)
{
    const struct problem *p = &source->problem;
    const struct case_expected *stored = source->file ? case_file_expected(source->file) : NULL;
    if (!stored || !stored->present)
        return STATUS_OK;
    const struct params params = arena_params(arena);
    struct expected_visit v = {.problem = p, .kernels = strip_kernels_get()};
    struct oracle *oracle;
    double *image = NULL;
    enum status status = oracle_create(&oracle, p, &params, error);
    if (status != STATUS_OK)
        return status;
    v.oracle = oracle;
    image = malloc((size_t)problem_output_image(p) * sizeof *image);
    v.scratch = malloc((size_t)omp_get_max_threads() * 6 * (size_t)oracle_pitch(oracle) *
                       sizeof *v.scratch);
    if (!image || !v.scratch) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for one image of /expected");
        goto out;
    }
    v.stored = image;
    bound_init(&v.bound, CLASS_FP64, p, 0.0, 0.0);
    v.bound.output_relative = 8.0 * 0x1p-53 + stored->roundoff;
    /* the oracle's own exponential ends at e^-708 */
    v.bound.output_absolute = 0x1p-1020 + stored->quantum;
    for (int64_t n = 0; n < p->batch; n++) {
        status = case_file_read_expected(source->file, n, 1, image, error);
        if (status == STATUS_OK)
            status =
                oracle_run(oracle, arena->x + n * problem_input_image(p), n, 1, visit, &v, error);
        if (status != STATUS_OK)
            goto out;
        if (v.bad > 0) {
            status = error_set(
                error, STATUS_FAILED,
                "the file's /expected differs from the oracle at (n %lld, c %lld, h %lld, w %lld) "
                "and %lld more places of that image: it holds %.17g, the oracle says %.17g, "
                "allowed "
                "%.3g",
                (long long)n, (long long)v.first.c, (long long)v.first.h, (long long)v.first.w,
                (long long)v.bad - 1, v.first.got, v.first.expected, v.first.worst);
            goto out;
        }
    }
out:
    free(image);
    free(v.scratch);
    oracle_free(oracle);
    return status;
}
