/* The rows of the table that run on the CPU. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "harness/clock.h"
#include "harness/implementation.h"
#include "ref/model_blas.h"
#include "ref/model_direct.h"
#include "ref/model_gemm.h"
#include "ref/oracle.h"

/* One state serves the three forms: they need the same things. */
struct cpu_state {
    struct problem problem;
    struct params params;
    struct model_gemm *gemm;
    struct model_blas *blas;
    struct oracle *oracle;
    struct model_gemm_stages stages;
    double *image;  /* one image in fp64 */
    double least_s; /* of slow5: the shortest run so far */
};

static bool supports_all(const struct implementation *i, const struct problem *problem,
                         const struct run_options *options, char *reason, size_t reason_size)
{
    (void)i, (void)problem, (void)options, (void)reason, (void)reason_size;
    return true;
}

static void release(void *state)
{
    struct cpu_state *s = state;
    if (!s)
        return;
    model_gemm_free(s->gemm);
    model_blas_free(s->blas);
    oracle_free(s->oracle);
    free(s->image);
    free(s);
}

static enum status state_create(struct cpu_state **state, const struct problem *problem,
                                const struct params *params, bool image, struct error *error)
{
    struct cpu_state *s = calloc(1, sizeof *s);
    *state = s;
    if (!s)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    s->problem = *problem;
    s->params = *params;
    if (image) {
        const size_t n = (size_t)problem_output_image(problem);
        s->image = malloc(n * sizeof *s->image);
        if (!s->image)
            return error_set(error, STATUS_ENVIRONMENT, "out of memory for one image in fp64");
    }
    return STATUS_OK;
}

static void store_image(const struct cpu_state *s, float *y)
{
    const int64_t n = problem_output_image(&s->problem);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)s->image[i];
}

/* ---- cpu-direct --------------------------------------------------------------------------------
 */

static enum status direct_prepare(const struct implementation *i, const struct problem *problem,
                                  const struct params *params, const struct run_options *options,
                                  void **state, struct error *error)
{
    (void)i, (void)options;
    return state_create((struct cpu_state **)state, problem, params, true, error);
}

static enum status direct_run(void *state, const float *x, float *y, struct error *error)
{
    const struct cpu_state *s = state;
    for (int64_t n = 0; n < s->problem.batch; n++) {
        const enum status status = model_direct_image(
            &s->problem, &s->params, x + n * problem_input_image(&s->problem), s->image, error);
        if (status != STATUS_OK)
            return status;
        store_image(s, y + n * problem_output_image(&s->problem));
    }
    return STATUS_OK;
}

/* ---- cpu-gemm ----------------------------------------------------------------------------------
 */

static enum status gemm_prepare(const struct implementation *i, const struct problem *problem,
                                const struct params *params, const struct run_options *options,
                                void **state, struct error *error)
{
    (void)i, (void)options;
    struct cpu_state *s;
    const enum status status = state_create(&s, problem, params, false, error);
    *state = s;
    return status == STATUS_OK ? model_gemm_create(&s->gemm, problem, params, error) : status;
}

static enum status gemm_run(void *state, const float *x, float *y, struct error *error)
{
    struct cpu_state *s = state;
    return model_gemm_run(s->gemm, x, y, s->problem.batch, &s->stages, error);
}

/* The work, and then 5 % of its time again. NOTE: time and not images, because the first image of a
 * call costs more than the others, and would make it 10 to 20 %. */
static enum status slow5_run(void *state, const float *x, float *y, struct error *error)
{
    struct cpu_state *s = state;
    const double start = clock_seconds();
    const enum status status = model_gemm_run(s->gemm, x, y, s->problem.batch, &s->stages, error);
    const double end = clock_seconds(), took = end - start;
    if (s->least_s <= 0.0 || took < s->least_s)
        s->least_s = took;
    while (clock_seconds() < end + 0.05 * s->least_s)
        ;
    return status;
}

static enum status twice_run(void *state, const float *x, float *y, struct error *error)
{
    const enum status status = gemm_run(state, x, y, error);
    return status == STATUS_OK ? gemm_run(state, x, y, error) : status;
}

static void gemm_describe(void *state, struct measurement *result)
{
    const struct cpu_state *s = state;
    result->conv_s = s->stages.conv_s;
    result->epilogue_s = s->stages.epilogue_s;
}

/* ---- cpu-blas ----------------------------------------------------------------------------------
 */

static enum status blas_prepare(const struct implementation *i, const struct problem *problem,
                                const struct params *params, const struct run_options *options,
                                void **state, struct error *error)
{
    (void)i, (void)options;
    struct cpu_state *s;
    const enum status status = state_create(&s, problem, params, false, error);
    *state = s;
    return status == STATUS_OK ? model_blas_create(&s->blas, problem, params, error) : status;
}

static enum status blas_run(void *state, const float *x, float *y, struct error *error)
{
    const struct cpu_state *s = state;
    return model_blas_run(s->blas, x, y, s->problem.batch, error);
}

/* ---- cpu-gemm-fp64: the oracle as an implementation --------------------------------------------
 */

static enum status oracle_prepare(const struct implementation *i, const struct problem *problem,
                                  const struct params *params, const struct run_options *options,
                                  void **state, struct error *error)
{
    (void)i, (void)options;
    struct cpu_state *s;
    const enum status status = state_create(&s, problem, params, true, error);
    *state = s;
    return status == STATUS_OK ? oracle_create(&s->oracle, problem, params, error) : status;
}

static enum status oracle_run_all(void *state, const float *x, float *y, struct error *error)
{
    const struct cpu_state *s = state;
    for (int64_t n = 0; n < s->problem.batch; n++) {
        const enum status status = oracle_expected(
            s->oracle, x + n * problem_input_image(&s->problem), n, 1, s->image, error);
        if (status != STATUS_OK)
            return status;
        store_image(s, y + n * problem_output_image(&s->problem));
    }
    return STATUS_OK;
}

const struct implementation implementations_cpu[] = {
    {.name = "cpu-gemm",
     .summary = "sub-pixel products in vector registers, fused epilogue",
     .cls = CLASS_FP32,
     .supports = supports_all,
     .prepare = gemm_prepare,
     .run = gemm_run,
     .describe = gemm_describe,
     .release = release},
    {.name = "cpu-blas",
     .summary = "the textbook: sub-pixel sgemms on OpenBLAS, the C library's exponentials",
     .cls = CLASS_FP32,
     .slow = true,
     .supports = supports_all,
     .prepare = blas_prepare,
     .run = blas_run,
     .release = release},
    {.name = "cpu-gemm-fp64",
     .summary = "the same products in double: the oracle of verify",
     .cls = CLASS_FP64,
     .slow = true,
     .supports = supports_all,
     .prepare = oracle_prepare,
     .run = oracle_run_all,
     .release = release},
    {.name = "cpu-direct",
     .summary = "the definition in double, loop by loop",
     .cls = CLASS_FP64,
     .slow = true,
     .supports = supports_all,
     .prepare = direct_prepare,
     .run = direct_run,
     .release = release},
    {.name = "cpu-gemm-slow5",
     .summary = "cpu-gemm that takes 5 % longer: what the gate of bench must find",
     .cls = CLASS_FP32,
     .slow = true,
     .supports = supports_all,
     .prepare = gemm_prepare,
     .run = slow5_run,
     .describe = gemm_describe,
     .release = release},
    {.name = "cpu-gemm-twice",
     .summary = "cpu-gemm with all of the work done twice: what bisect must find",
     .cls = CLASS_FP32,
     .slow = true,
     .supports = supports_all,
     .prepare = gemm_prepare,
     .run = twice_run,
     .describe = gemm_describe,
     .release = release},
};
const size_t implementations_cpu_count = sizeof implementations_cpu / sizeof *implementations_cpu;
