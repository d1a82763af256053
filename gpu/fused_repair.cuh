/* The images whose range scaled fp16 cannot hold, again in IEEE fp32 (internal to gpu/).
 *
 * The tile kernel multiplies x by one fixed power of two and notes the largest |x| of each image.
 * This kernel follows it: it reads the notes and returns at once where every image was within
 * [smallest, largest] (or all zero); the others it computes by the definition: a block takes a
 * pixel, a thread a channel, products in the order (input channel, kernel row, kernel column). Taps
 * that fall outside x don't exist, so NaN and infinities go where IEEE arithmetic sends them. It
 * also clears the notes for the next launch. */
#ifndef ASSAY_GPU_FUSED_REPAIR_CUH
#define ASSAY_GPU_FUSED_REPAIR_CUH

#include <math.h>
#include <stdint.h>

#include "gpu/epilogue_math.cuh"

constexpr int kRepairThreads = 256;
constexpr int kRepairChannels = 128; /* the most that out_channels may be */

struct repair_args {
    const float *x;
    float *y;
    const float *weight, *conv_bias, *bias;
    uint32_t *image_max; /* [images], and one for the count of finished blocks */
    float smallest, largest;
    float scaling_factor;
    int images, in_channels, out_channels, height, width, output_h, output_w;
    int kernel_h, kernel_w, padding_h, padding_w; /* stride 2 */
};

static __device__ __forceinline__ bool repair_wanted(const struct repair_args &args, int image)
{
    const float m = __uint_as_float(__ldcg(args.image_max + image));
    return !(m == 0.0f ? args.largest > 0.0f : m >= args.smallest && m <= args.largest);
}

template <bool kMaximum>
static __device__ float repair_reduce(float v, float *scratch)
{
    for (int step = 16; step; step /= 2) {
        const float other = __shfl_xor_sync(~0u, v, step);
        v = kMaximum ? fmaxf(v, other) : v + other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    __syncthreads();
    v = scratch[0];
    for (int i = 1; i < kRepairThreads / 32; i++)
        v = kMaximum ? fmaxf(v, scratch[i]) : v + scratch[i];
    return v;
}

static __global__ void __launch_bounds__(kRepairThreads)
    fused_repair_kernel(const __grid_constant__ struct repair_args args)
{
    __shared__ float logit[kRepairChannels];
    __shared__ float scratch[kRepairThreads / 32];
    const struct repair_args &g = args;
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
    for (int first = 0; first < g.images; first += kRepairThreads) {
        const int mine = first + threadIdx.x;
        if (!__syncthreads_or(mine < g.images && repair_wanted(args, mine)))
            continue;
        for (int image = first; image < min(first + kRepairThreads, g.images); image++) {
            if (!repair_wanted(args, image))
                continue;
            const int pixels = g.output_h * g.output_w;
            for (int pixel = blockIdx.x; pixel < pixels; pixel += gridDim.x) {
                const int u = pixel / g.output_w + g.padding_h,
                          v = pixel % g.output_w + g.padding_w;
                float maximum = -INFINITY;
                for (int c = threadIdx.x; c < g.out_channels; c += kRepairThreads) {
                    float sum = 0.0f;
                    for (int in = 0; in < g.in_channels; in++) {
                        const float *x =
                            args.x + ((int64_t)image * g.in_channels + in) * g.height * g.width;
                        const float *w = args.weight + ((int64_t)in * g.out_channels + c) *
                                                           g.kernel_h * g.kernel_w;
                        for (int kh = u % 2; kh < g.kernel_h; kh += 2) {
                            const int row = (u - kh) / 2;
                            if (u < kh || row >= g.height)
                                continue;
                            for (int kw = v % 2; kw < g.kernel_w; kw += 2) {
                                const int col = (v - kw) / 2;
                                if (v >= kw && col < g.width)
                                    sum = fmaf(x[(int64_t)row * g.width + col],
                                               w[kh * g.kernel_w + kw], sum);
                            }
                        }
                    }
                    sum += args.conv_bias[c];
                    logit[c] = sum;
                    maximum = fmaxf(maximum, sum);
                }
                maximum = repair_reduce<true>(maximum, scratch);
                float total = 0.0f;
                for (int c = threadIdx.x; c < g.out_channels; c += kRepairThreads) {
                    logit[c] = fast_exp(logit[c] - maximum);
                    total += logit[c];
                }
                total = repair_reduce<false>(total, scratch);
                for (int c = threadIdx.x; c < g.out_channels; c += kRepairThreads)
                    args.y[((int64_t)image * g.out_channels + c) * pixels + pixel] =
                        fast_sigmoid(args.scaling_factor * (logit[c] / total + args.bias[c]));
            }
        }
    }
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(args.image_max + g.images, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last)
        for (int i = threadIdx.x; i <= g.images; i += kRepairThreads)
            args.image_max[i] = 0;
}

#endif
