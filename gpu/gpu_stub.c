/* gpu.h and gpu_timing.h for a build without CUDA: the table is listed, and nothing runs. */
#include <stdio.h>
#include <string.h>

#include "gpu/gpu.h"
#include "gpu/gpu_timing.h"
#include "gpu/variant_list.h"

static const struct gpu_variant variants[] = {
#define X(symbol, name, summary, cls, unit, passes, verified)                                      \
    {name, summary, cls, unit, passes, verified},
    GPU_VARIANT_LIST(X)
#undef X
};

static const char reason_text[] = "built without CUDA";

static enum status refuse(struct error *error)
{
    return error_set(error, STATUS_UNSUPPORTED, reason_text);
}

enum status gpu_status(struct error *error)
{
    return refuse(error);
}

int gpu_device_count(void)
{
    return 0;
}

enum status gpu_device_info_get(int device, struct gpu_device_info *info, struct error *error)
{
    (void)device;
    memset(info, 0, sizeof *info);
    return refuse(error);
}

size_t gpu_variant_count(void)
{
    return sizeof variants / sizeof *variants;
}

const struct gpu_variant *gpu_variant_at(size_t index)
{
    return index < gpu_variant_count() ? &variants[index] : NULL;
}

bool gpu_variant_supports(const struct gpu_variant *variant, const struct problem *problem,
                          int device, char *reason, size_t reason_size)
{
    (void)variant;
    (void)problem;
    (void)device;
    snprintf(reason, reason_size, "%s", reason_text);
    return false;
}

enum status gpu_plan_create(struct gpu_plan **plan, const struct gpu_variant *variant,
                            const struct problem *problem, const struct params *params,
                            enum arithmetic_class cls, int device, struct error *error)
{
    (void)variant;
    (void)problem;
    (void)params;
    (void)cls;
    (void)device;
    *plan = NULL;
    return refuse(error);
}

void gpu_plan_free(struct gpu_plan *plan)
{
    (void)plan;
}

const char *gpu_plan_note(const struct gpu_plan *plan)
{
    (void)plan;
    return "";
}

int64_t gpu_plan_slice(const struct gpu_plan *plan)
{
    (void)plan;
    return 0;
}

const struct problem *gpu_plan_problem(const struct gpu_plan *plan)
{
    (void)plan;
    return NULL;
}

const struct gpu_variant *gpu_plan_variant(const struct gpu_plan *plan)
{
    (void)plan;
    return NULL;
}

int gpu_plan_device(const struct gpu_plan *plan)
{
    (void)plan;
    return 0;
}

bool gpu_plan_varies(const struct gpu_plan *plan)
{
    (void)plan;
    return false;
}

enum status gpu_plan_run(struct gpu_plan *plan, const float *d_x, float *d_y, int64_t images,
                         void *stream, struct error *error)
{
    (void)plan;
    (void)d_x;
    (void)d_y;
    (void)images;
    (void)stream;
    return refuse(error);
}

void gpu_plan_release_buffers(struct gpu_plan *plan)
{
    (void)plan;
}

enum status gpu_plan_run_host(struct gpu_plan *plan, const float *x, float *y, double *h2d_s,
                              double *d2h_s, struct error *error)
{
    (void)plan;
    (void)x;
    (void)y;
    (void)h2d_s;
    (void)d2h_s;
    return refuse(error);
}

enum status gpu_plan_profile(struct gpu_plan *plan, struct error *error)
{
    (void)plan;
    return refuse(error);
}

enum status gpu_ceilings_measure(int device, struct gpu_ceilings *ceilings, struct error *error)
{
    (void)device;
    memset(ceilings, 0, sizeof *ceilings);
    return refuse(error);
}

double gpu_floor(const struct problem *problem, int64_t images, const struct gpu_variant *variant,
                 const struct gpu_ceilings *ceilings, const char **bound_by)
{
    (void)problem;
    (void)images;
    (void)variant;
    (void)ceilings;
    *bound_by = "";
    return 0.0;
}

enum status gpu_timing_create(struct gpu_timing **timing, struct gpu_plan *plan, const float *x,
                              struct error *error)
{
    (void)plan;
    (void)x;
    *timing = NULL;
    return refuse(error);
}

void gpu_timing_free(struct gpu_timing *timing)
{
    (void)timing;
}

enum status gpu_timing_sample(struct gpu_timing *timing, struct error *error)
{
    (void)timing;
    return refuse(error);
}

enum status gpu_timing_run(struct gpu_timing *timing, const struct gpu_timing_rule *rule,
                           struct error *error)
{
    (void)timing;
    (void)rule;
    return refuse(error);
}

const struct gpu_timing_result *gpu_timing_result(struct gpu_timing *timing,
                                                  const struct gpu_ceilings *ceilings)
{
    (void)timing;
    (void)ceilings;
    return NULL;
}

int gpu_timing_outputs(const struct gpu_timing *timing)
{
    (void)timing;
    return 0;
}

enum status gpu_timing_output(struct gpu_timing *timing, int index, float *y, struct error *error)
{
    (void)timing;
    (void)index;
    (void)y;
    return refuse(error);
}
