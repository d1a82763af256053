/* The CUDA path, behind one C header.
 *
 * Every form of the model on the GPU is a variant in one table. A plan is a variant made ready for
 * one problem and one set of parameters on one device: weights packed, workspace allocated. A plan
 * runs on device pointers in the caller's stream, or on host pointers in slices of the batch.
 *
 * Built without nvcc, the same header is answered by gpu/gpu_stub.c: the table is there, and
 * gpu_status() says `built without CUDA`. Nothing here needs a CUDA header.
 *
 * Shapes, types and formula: ref/problem.h. All tensors are fp32, NCHW, contiguous, and aligned as
 * cudaMalloc (device) or malloc (host) aligns. x and y must not overlap. */
#ifndef ASSAY_GPU_GPU_H
#define ASSAY_GPU_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/arithmetic_class.h"
#include "ref/problem.h"
#include "ref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- devices -------------------------------------------------------------------------------- */

/* STATUS_OK when at least one CUDA device can be used; otherwise STATUS_UNSUPPORTED with the
 * reason: "built without CUDA", "no CUDA device", or what the driver said. */
enum status gpu_status(struct error *error);

int gpu_device_count(void); /* 0 when gpu_status() is not STATUS_OK */

struct gpu_device_info {
    char name[128];
    char uuid[64];
    int compute_major, compute_minor;
    int multiprocessors;
    size_t memory_bytes, memory_free_bytes;
    size_t l2_bytes;
    int driver_version, runtime_version; /* as CUDA numbers them: 13000 is 13.0 */
    char cudnn[64];                      /* version, or why it is absent */
    int sm_clock_mhz, memory_clock_mhz;  /* now, from NVML; 0 when NVML is absent */
    int sm_clock_max_mhz;
};

enum status gpu_device_info_get(int device, struct gpu_device_info *info, struct error *error);

/* ---- variants ------------------------------------------------------------------------------- */

/* The unit that multiplies: which measured ceiling bounds the arithmetic. */
enum gpu_unit { GPU_UNIT_FP32, GPU_UNIT_TF32, GPU_UNIT_FP16 };

struct gpu_variant {
    const char *name; /* unique, e.g. "gpu-fused-fp32" */
    const char *summary;
    enum arithmetic_class cls;
    enum gpu_unit unit;
    int passes;    /* products that `unit` computes for each product of the definition */
    bool verified; /* false: not yet verified on a device, runs only where it is named */
};

size_t gpu_variant_count(void);
const struct gpu_variant *gpu_variant_at(size_t index);

/* False, with one line in `reason`, where the variant cannot compute the problem, there is no
 * device it can run on, or a library that it needs is missing. */
bool gpu_variant_supports(const struct gpu_variant *variant, const struct problem *problem,
                          int device, char *reason, size_t reason_size);

/* ---- plans ---------------------------------------------------------------------------------- */

struct gpu_plan;

/* Packs `params` (host pointers, copied) for `variant` on `device` and allocates what a run of up
 * to `problem->batch` images needs, or of as many as fit (gpu_plan_slice). An error names the
 * failing call, the variant and the problem. `cls` is what gpu-auto must not exceed; others ignore
 * it. */
enum status gpu_plan_create(struct gpu_plan **plan, const struct gpu_variant *variant,
                            const struct problem *problem, const struct params *params,
                            enum arithmetic_class cls, int device, struct error *error);
void gpu_plan_free(struct gpu_plan *plan);

/* What the plan chose, in words, e.g. "gpu-fused-fp32" for gpu-auto, or a branch taken for the
 * data's range. Valid until the plan is freed; empty when there is nothing to say. */
const char *gpu_plan_note(const struct gpu_plan *plan);

/* Images that one gpu_plan_run may take: the batch, or as many as fitted in the device memory that
 * was free when the plan was made, x and y counted. */
int64_t gpu_plan_slice(const struct gpu_plan *plan);

/* What the plan was made of; the variant that does the work, so for gpu-auto the one it chose. */
const struct problem *gpu_plan_problem(const struct gpu_plan *plan);
const struct gpu_variant *gpu_plan_variant(const struct gpu_plan *plan);
int gpu_plan_device(const struct gpu_plan *plan);

/* True where two runs on the same x may differ in bits: an engine of cuDNN's that adds in no fixed
 * order. All of this project's kernels repeat exactly. */
bool gpu_plan_varies(const struct gpu_plan *plan);

/* Enqueues y = model(x) for `images` images on `stream` (a cudaStream_t, NULL is the default one).
 * d_x [images, Cin, H, W] and d_y [images, Cout, Ho, Wo] are device pointers. Asynchronous;
 * allocates nothing; can be captured in a graph. */
enum status gpu_plan_run(struct gpu_plan *plan, const float *d_x, float *d_y, int64_t images,
                         void *stream, struct error *error);

/* The same on host pointers for the whole batch, slice by slice; returns when y is complete.
 * h2d_s, d2h_s: seconds spent copying each way (may be NULL). */
enum status gpu_plan_run_host(struct gpu_plan *plan, const float *x, float *y, double *h2d_s,
                              double *d2h_s, struct error *error);

/* Frees the device's x and y that such runs keep for the next one. */
void gpu_plan_release_buffers(struct gpu_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
