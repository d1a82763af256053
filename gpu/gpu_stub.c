/* gpu.h and gpu_timing.h for a build without CUDA: the table is listed, and nothing runs. */
#include <stdio.h>
#include <string.h>

#include "gpu/gpu.h"
#include "gpu/gpu_timing.h"
#include "gpu/variant_list.h"

static const struct gpu_variant variants[] = {
#define X(symbol, name, summary, cls, unit, passes) {name, summary, cls, unit, passes},
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
