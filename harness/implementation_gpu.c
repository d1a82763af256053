/* The rows of the table that run on a CUDA device: one for each of gpu/'s variants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/gpu.h"
#include "gpu/gpu_timing.h"
#include "harness/implementation.h"

struct gpu_state {
    struct gpu_plan *plan;
    struct problem problem;
    int device;
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
    s->problem = *problem;
    s->device = options->device;
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

static void take_result(const struct gpu_timing_result *r, double scale, struct measurement *m)
{
    m->count = r->count < MEASUREMENT_SAMPLES ? r->count : MEASUREMENT_SAMPLES;
    for (int64_t i = 0; i < m->count; i++)
        m->samples_s[i] = r->samples_s[i] * scale;
    m->h2d_s = r->h2d_s;
    m->d2h_s = r->d2h_s;
    m->floor_s = r->floor_s * scale;
    m->ceiling_copy_gbytes_per_s = r->ceilings.copy_gbytes_per_s;
    m->ceiling_write_gbytes_per_s = r->ceilings.write_gbytes_per_s;
    m->ceiling_fp16_tflops = r->ceilings.fp16_tflops;
    m->ceiling_tf32_tflops = r->ceilings.tf32_tflops;
    m->ceiling_fp32_tflops = r->ceilings.fp32_tflops;
    m->sm_clock_min_mhz = r->sm_clock_min_mhz;
    m->sm_clock_max_mhz = r->sm_clock_max_mhz;
    m->memory_clock_mhz = r->memory_clock_mhz;
    snprintf(m->bound_by, sizeof m->bound_by, "%s", r->bound_by);
    snprintf(m->device, sizeof m->device, "%s", r->device);
    snprintf(m->driver, sizeof m->driver, "%s", r->driver);
    snprintf(m->throttle, sizeof m->throttle, "%s", r->throttle);
}

/* The ceilings are the device's, not the case's: once for a process. */
static enum status ceilings_of(int device, const struct gpu_ceilings **ceilings,
                               struct error *error)
{
    static struct gpu_ceilings measured;
    static int of_device = -1;
    enum status status = STATUS_OK;
    if (of_device != device)
        status = gpu_ceilings_measure(device, &measured, error);
    of_device = status == STATUS_OK ? device : -1;
    *ceilings = &measured;
    return status;
}

static enum status measure(void *state, const float *x, float *y,
                           const struct measurement_plan *plan, struct measurement *m,
                           struct error *error)
{
    struct gpu_state *s = state;
    struct gpu_timing *timing = NULL;
    const struct gpu_ceilings *ceilings;
    const struct gpu_timing_rule rule = {.samples = plan->samples,
                                         .min_samples = plan->min_samples,
                                         .half_width = plan->half_width,
                                         .budget_s = plan->budget_s};
    if (plan->profile) {
        const enum status status = gpu_plan_profile(s->plan, error);
        return status == STATUS_OK ? run(state, x, y, error) : status;
    }
    m->count = 0;
    if (s->problem.batch == 0) /* nothing is launched */
        return STATUS_OK;
    enum status status = ceilings_of(s->device, &ceilings, error);
    /* A batch that does not fit is timed by its first slice; the rest of y is made untimed, and
     * before, while there is room. */
    if (status == STATUS_OK && gpu_plan_slice(s->plan) < s->problem.batch)
        status = run(state, x, y, error);
    gpu_plan_release_buffers(s->plan);
    if (status == STATUS_OK)
        status = gpu_timing_create(&timing, s->plan, x, error);
    if (status == STATUS_OK)
        status = gpu_timing_run(timing, &rule, error);
    if (status == STATUS_OK)
        status = gpu_timing_output(timing, 0, y, error); /* times the copy to the host, too */
    if (status == STATUS_OK) {
        const struct gpu_timing_result *r = gpu_timing_result(timing, ceilings);
        const double scale = r->images > 0 ? (double)s->problem.batch / (double)r->images : 1.0;
        describe(state, m);
        take_result(r, scale, m);
        if (r->differing_samples > 0)
            status = error_set(error, STATUS_FAILED,
                               "%lld of %lld timed runs gave other bits than the first",
                               (long long)r->differing_samples, (long long)r->count);
    }
    gpu_timing_free(timing);
    return status;
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
                                   .slow = !variant->verified,
                                   .takes_class = strcmp(variant->name, "gpu-auto") == 0,
                                   .reuse_process = true,
                                   .row = variant,
                                   .supports = supports,
                                   .prepare = prepare,
                                   .run = run,
                                   .measure = measure,
                                   .describe = describe,
                                   .release = release};
}
