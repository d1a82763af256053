/* The rows of the table that run on a CUDA device: one for each of gpu/'s variants. */
#include <stdio.h>
#include <stdlib.h>

#include "gpu/gpu.h"
#include "harness/implementation.h"

struct gpu_state {
    struct gpu_plan *plan;
    double h2d_s, d2h_s;
};

static bool supports(const struct implementation *i, const struct problem *problem,
                     const struct run_options *options, char *reason, size_t reason_size)
{
    struct error error;
    if (gpu_status(&error) != STATUS_OK) {
        snprintf(reason, reason_size, "%s", error.message);
        return false;
    }
    return gpu_variant_supports(i->row, problem, options->device, reason, reason_size);
}

static void release(void *state)
{
    struct gpu_state *s = state;
    if (!s)
        return;
    gpu_plan_free(s->plan);
    free(s);
}

static enum status prepare(const struct implementation *i, const struct problem *problem,
                           const struct params *params, const struct run_options *options,
                           void **state, struct error *error)
{
    struct gpu_state *s = calloc(1, sizeof *s);
    *state = s;
    if (!s)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    return gpu_plan_create(&s->plan, i->row, problem, params, options->cls, options->device, error);
}

static enum status run(void *state, const float *x, float *y, struct error *error)
{
    struct gpu_state *s = state;
    return gpu_plan_run_host(s->plan, x, y, &s->h2d_s, &s->d2h_s, error);
}

static void describe(void *state, struct measurement *result)
{
    const struct gpu_state *s = state;
    result->h2d_s = s->h2d_s;
    result->d2h_s = s->d2h_s;
    snprintf(result->note, sizeof result->note, "%s", gpu_plan_note(s->plan));
}

size_t implementation_gpu_count(void)
{
    return gpu_variant_count();
}

struct implementation implementation_gpu_at(size_t index)
{
    const struct gpu_variant *variant = gpu_variant_at(index);
    return (struct implementation){.name = variant->name,
                                   .summary = variant->summary,
                                   .cls = variant->cls,
                                   .reuse_process = true,
                                   .row = variant,
                                   .supports = supports,
                                   .prepare = prepare,
                                   .run = run,
                                   .describe = describe,
                                   .release = release};
}
