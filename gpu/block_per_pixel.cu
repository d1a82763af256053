/* Convolution apart; softmax .. sigmoid with one block of threads for each pixel.
 *
 *     block = pixel p of image n;  thread c = channel c;  maximum and sum by shuffles in a warp,
 *     then over the warps in shared memory
 *
 * The obvious mapping, kept because it teaches: threads of a warp read addresses Ho * Wo floats
 * apart, so each 4-byte access costs a 32-byte sector and the pass moves 8 times its bytes through
 * L2. gpu/softmax_pass.cu is the same arithmetic with neighbours in a warp neighbours in memory.
 *
 * Launch: Cout threads rounded up to a warp, at most 1024, so Cout <= 1024; 2.1 million blocks on
 * the home case. */
#include <stdio.h>

#include "gpu/conv_transpose_fp32.h"
#include "gpu/cuda_check.h"
#include "gpu/epilogue_math.cuh"

#define MAX_THREADS 1024

template <bool MAXIMUM>
static __device__ float across_block(float value, float *shared)
{
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, value, step);
        value = MAXIMUM ? fmaxf(value, other) : value + other;
    }
    const int warps = blockDim.x / 32;
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = shared[0];
    for (int w = 1; w < warps; w++)
        value = MAXIMUM ? fmaxf(value, shared[w]) : value + shared[w];
    __syncthreads();
    return value;
}

__global__ void __launch_bounds__(MAX_THREADS)
    block_per_pixel_kernel(float *y, const float *bias, int64_t pixels, int64_t plane, int channels,
                           float scale)
{
    __shared__ float shared[MAX_THREADS / 32];
    const int c = threadIdx.x;
    const bool real = c < channels;
    for (int64_t pixel = blockIdx.x; pixel < pixels; pixel += gridDim.x) {
        const int64_t image = pixel / plane;
        float *const at = y + (image * channels + c) * plane + (pixel - image * plane);
        const float logit = real ? *at : -INFINITY;
        const float origin = exponent_origin(across_block<true>(logit, shared));
        const float e = fast_exp(logit - origin);
        const float sum = across_block<false>(e, shared);
        if (real)
            *at = fast_sigmoid(scale * (e * fast_reciprocal(sum) + bias[c]));
    }
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    const struct conv_transpose *conv = (const struct conv_transpose *)context->state;
    const struct problem *p = &context->problem;
    const int64_t plane = problem_output_h(p) * problem_output_w(p), pixels = images * plane;
    enum status status = conv_transpose_launch(conv, d_x, d_y, images, stream, error);
    if (status != STATUS_OK)
        return status;
    block_per_pixel_kernel<<<(unsigned)(pixels < 2147483647 ? pixels : 2147483647),
                             (unsigned)((p->out_channels + 31) / 32 * 32), 0, stream>>>(
        d_y, context->d_bias, pixels, plane, (int)p->out_channels, p->scaling_factor);
    CHECK_LAUNCH("block_per_pixel_kernel");
out:
    return status;
}

static bool supports(const struct problem *problem, const struct cudaDeviceProp *device,
                     char *reason, size_t reason_size)
{
    if (problem->out_channels > MAX_THREADS) {
        snprintf(reason, reason_size, "one thread for each channel: at most %d channels, not %lld",
                 MAX_THREADS, (long long)problem->out_channels);
        return false;
    }
    return conv_transpose_variant_supports(problem, device, reason, reason_size);
}

const struct variant_ops variant_block_per_pixel = {
    .info = VARIANT_INFO(block_per_pixel),
    .supports = supports,
    .workspace = NULL,
    .prepare = conv_transpose_variant_prepare,
    .launch = launch,
    .release = conv_transpose_variant_release,
};
