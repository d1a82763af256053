/* Host side of what every form of the fused tensor-core kernels keeps: weights scaled into fp16's
 * range, the largest |x| of each image, and the repair of images out of range (internal to gpu/).
 */
#ifndef ASSAY_GPU_FUSED_HOST_CUH
#define ASSAY_GPU_FUSED_HOST_CUH

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/fp16_range.h"
#include "gpu/fused_common.cuh"
#include "gpu/fused_repair.cuh"
#include "gpu/hopper.cuh"
#include "gpu/launch.cuh"
#include "gpu/variant.h"

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline struct fast_divisor fast_divisor_make(uint32_t divisor)
{
    struct fast_divisor by = {divisor, 0, 0};
    if (divisor > 1) {
        uint32_t bits = 0;
        while (bits < 32 && (1ull << bits) < divisor)
            bits++;
        by.multiplier = (uint32_t)((1ull << (31 + bits)) / divisor + 1);
        by.shift = bits - 1;
    }
    return by;
}

/* Without a maximum subtracted, numerators below 2^-126 beside a sum of 2^-60 become zero: a
 * scaled probability up to 2^-66 of this. And the factor of a numerator, the scaling factor over
 * the sum, has to stay finite. */
constexpr float kMostScale = 0x1p40f;

/* Why neither fused kernel can do it, or NULL. */
static inline const char *fused_refusal(const struct problem *p,
                                        const struct cudaDeviceProp *device)
{
    const char *why = hopper_refusal(device);
    if (why)
        ;
    else if (p->stride_h != 2 || p->stride_w != 2)
        why = "only stride 2 is supported";
    else if (p->kernel_h > 4 || p->kernel_w > 4)
        why = "only kernels of up to 4 x 4 are supported";
    else if (p->dilation_h != 1 || p->dilation_w != 1 || p->groups != 1)
        why = "dilation and groups are not supported";
    else if (p->in_channels > kChannelGroups * 8)
        why = "more than 64 input channels are not supported";
    else if (p->out_channels > kRepairChannels)
        why = "more than 128 output channels are not supported";
    else if (!(fabsf(p->scaling_factor) < kMostScale))
        why = "the scaling factor is beyond the epilogue's range";
    return why;
}

/* Whether no 1 + exp(-z) can exceed 2^60. */
static inline bool fused_pairs(const struct problem *p, const float *bias)
{
    float steepest = -INFINITY;
    bool pairs = true;
    for (int64_t c = 0; c < p->out_channels; c++) {
        const float b = -p->scaling_factor * bias[p->bias_count == 1 ? 0 : c];
        pairs &= b == b;
        steepest = fmaxf(steepest, b + fmaxf(0.0f, -p->scaling_factor));
    }
    return pairs && steepest * LOG2_E < 60.0f;
}

struct fused_shared {
    __half *weights;
    uint32_t *image_max; /* [slice], then the repair kernel's count of finished blocks */
    struct fp16_range range;
    bool pairs; /* no 1 + exp(-z) can exceed 2^60 */
};

static inline void fused_shared_release(struct fused_shared *shared)
{
    cudaFree(shared->weights);
    cudaFree(shared->image_max);
}

/* Allocates `packed` halves for the weights. */
static inline enum status fused_shared_prepare(struct fused_shared *shared,
                                               struct variant_context *context, size_t packed,
                                               int parts, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const int64_t slice = larger(context->slice, 1);

    shared->range = fp16_range_of(p, context->h_params.weight, parts);
    if (shared->range.largest > 0.0f)
        snprintf(context->note, sizeof context->note, "images with max|x| outside [%g, %g] in fp32",
                 (double)shared->range.smallest, (double)shared->range.largest);
    else
        snprintf(context->note, sizeof context->note, "weights beyond fp16: all in fp32");
    shared->pairs = fused_pairs(p, context->h_params.bias);

    CHECK(cudaMalloc(&shared->weights, packed * sizeof *shared->weights));
    CHECK(cudaMalloc(&shared->image_max, (slice + 1) * sizeof *shared->image_max));
    CHECK(cudaMemset(shared->image_max, 0, (slice + 1) * sizeof *shared->image_max));
out:
    return status;
}

/* Enqueues the repair of the images that the kernel before it in the stream could not do. */
static inline enum status fused_shared_repair(const struct fused_shared *shared,
                                              const struct variant_context *context,
                                              const float *d_x, float *d_y, int64_t images,
                                              cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    struct repair_args repair;
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute;
    memset(&repair, 0, sizeof repair);
    repair.x = d_x;
    repair.y = d_y;
    repair.weight = context->d_weight;
    repair.conv_bias = context->d_conv_bias;
    repair.bias = context->d_bias;
    repair.image_max = shared->image_max;
    repair.smallest = shared->range.smallest;
    repair.largest = shared->range.largest;
    repair.scaling_factor = p->scaling_factor;
    repair.images = (int)images;
    repair.in_channels = (int)p->in_channels;
    repair.out_channels = (int)p->out_channels;
    repair.height = (int)p->height;
    repair.width = (int)p->width;
    repair.output_h = (int)problem_output_h(p);
    repair.output_w = (int)problem_output_w(p);
    repair.kernel_h = (int)p->kernel_h;
    repair.kernel_w = (int)p->kernel_w;
    repair.padding_h = (int)p->padding_h;
    repair.padding_w = (int)p->padding_w;
    config.gridDim = dim3(context->multiprocessors);
    config.blockDim = dim3(kRepairThreads);
    config.stream = stream;
    /* its blocks may start while the last tiles are stored; they wait for them before they read */
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CHECK(cudaLaunchKernelEx(&config, fused_repair_kernel, repair));
out:
    return status;
}

#endif
