/* libassay: the operator chain as a shared library, for programs in any language
 *
 *     y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim = 1) + bias))
 *
 *     x          float32 [batch, in_channels, height, width]                  NCHW, contiguous
 *     W          float32 [in_channels, out_channels / groups, kernel[0], kernel[1]]
 *     conv_bias  float32 [out_channels], or NULL
 *     bias       float32 [bias_count]: out_channels elements, or one for all channels
 *     y          float32 [batch, out_channels, output_h, output_w]            NCHW, contiguous
 *
 * Attributes mean what they mean in torch.nn.ConvTranspose2d; pairs are (h, w).
 *
 * The ABI is stable: functions are added and never changed; `assay_abi_version` counts the
 * additions. This header needs nothing but <stdint.h>, and the library exports nothing but what is
 * declared here. It was built with or without CUDA; without, plans on a GPU are refused.
 *
 * A function that can fail returns an assay_status and leaves one line in assay_last_error() of the
 * calling thread. Functions may be called from any thread; one plan on the CPU may run in several
 * threads at once. Runs of one plan on a GPU share workspace: they must be ordered, on one stream
 * or by events. */
#ifndef ASSAY_HARNESS_ASSAY_H
#define ASSAY_HARNESS_ASSAY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ASSAY_ABI_VERSION 1
#define ASSAY_CPU (-1) /* as a device: the CPU */

#if defined(__GNUC__)
#define ASSAY_API __attribute__((visibility("default")))
#else
#define ASSAY_API
#endif

enum assay_status {
    ASSAY_OK = 0,
    ASSAY_BAD_INPUT = 2,   /* the request cannot be met by anything */
    ASSAY_ENVIRONMENT = 3, /* memory, the device, the driver */
    ASSAY_UNSUPPORTED = 4  /* not on this device, not in this build, not at this class */
};

/* 20 numbers of 8 bytes, in this order. */
struct assay_problem {
    int64_t batch, in_channels, out_channels, height, width;
    int64_t kernel[2], stride[2], padding[2], output_padding[2], dilation[2];
    int64_t groups;
    int64_t bias_count;    /* out_channels, or 1 */
    int64_t has_conv_bias; /* 0 or 1 */
    int64_t reserved;      /* 0 */
    double scaling_factor; /* rounded to float32 */
};

struct assay_plan;

/* ---- the library ------------------------------------------------------------------------------
 */

ASSAY_API int assay_abi_version(void); /* of the library: at least what the caller was built for */
ASSAY_API const char *assay_build(void); /* one line: commit, with or without CUDA */

/* The message of the last call that failed in this thread; "" before the first. Valid until the
 * thread's next call. */
ASSAY_API const char *assay_last_error(void);

/* CUDA devices that can be used; 0 with the reason in assay_last_error(). */
ASSAY_API int assay_device_count(void);

/* Threads that runs on the CPU use when the calling thread makes them; at least 1. */
ASSAY_API void assay_set_threads(int threads);

/* ---- problems ---------------------------------------------------------------------------------
 */

/* Validates as PyTorch does, with its reasons; stores output_h and output_w (either may be NULL).
 */
ASSAY_API int assay_output_size(const struct assay_problem *problem, int64_t *output_h,
                                int64_t *output_w);

/* ---- plans ------------------------------------------------------------------------------------
 */

/* A plan is the chain made ready for one problem, one set of parameters and one device: weights
 * packed, workspace allocated.
 *
 * device      a CUDA device's number, or ASSAY_CPU
 * arithmetic  the class that rounding must not exceed: "fp32" (IEEE single), "tf32" (operands kept
 *             to 10 bits), or another name of `assay info` but "fp64", which is unsupported; the
 *             CPU computes in fp32 for any
 * variant     NULL for the fastest of the class, or the name of a row of `assay info`
 * weight, conv_bias, bias    host pointers, copied
 *
 * Makes `device` the calling thread's current CUDA device: set it again where that matters. */
ASSAY_API int assay_plan_create(struct assay_plan **plan, const struct assay_problem *problem,
                                int device, const char *arithmetic, const char *variant,
                                const float *weight, const float *conv_bias, const float *bias);

/* Waits for the device and makes it current. NULL is legal. */
ASSAY_API void assay_plan_free(struct assay_plan *plan);

/* What does the work, in words. Valid until the plan is freed. */
ASSAY_API const char *assay_plan_note(const struct assay_plan *plan);

/* Images that one run may take: the batch, or as many as device memory had room for. */
ASSAY_API int64_t assay_plan_images(const struct assay_plan *plan);

/* 1 where these parameters (host pointers) are the plan's own, bit for bit; else 0. */
ASSAY_API int assay_plan_holds(const struct assay_plan *plan, const float *weight,
                               const float *conv_bias, const float *bias);

/* y = model(x) for `images` images, x and y where the plan is and not overlapping. On a GPU:
 * enqueued on `stream` (a cudaStream_t; NULL is the default stream) of the plan's device, which
 * must be current; allocates nothing, returns at once, can be captured in a graph; x and y aligned
 * to 256 bytes. On the CPU: `stream` is ignored and y is complete on return. */
ASSAY_API int assay_plan_run(struct assay_plan *plan, const float *x, float *y, int64_t images,
                             void *stream);

/* The same for the whole batch with x and y in host memory, wherever the plan is; y is complete on
 * return. */
ASSAY_API int assay_plan_run_host(struct assay_plan *plan, const float *x, float *y);

#ifdef __cplusplus
}
#endif
#endif
