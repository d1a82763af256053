// A kernel of one's own in CUDA, for harness/plugin.h: one block an output pixel, one thread a
// channel, as simple as it gets.
//
//     nvcc -O2 -shared -Xcompiler -fPIC -Iharness -o plugin_cuda.so tests/examples/plugin_cuda.cu
//     assay verify --impl plugin:./plugin_cuda.so home@mb1
//     assay bench --impl plugin:./plugin_cuda.so home@mb1
#include <cuda_runtime.h>
#include <stdio.h>

#include "plugin.h"

#define THREADS 256

// Largest or sum over a block; every thread gets it.
template <bool MAXIMUM>
__device__ float reduce(float value, float *shared)
{
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int step = THREADS / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) {
            const float other = shared[threadIdx.x + step];
            shared[threadIdx.x] =
                MAXIMUM ? fmaxf(shared[threadIdx.x], other) : shared[threadIdx.x] + other;
        }
        __syncthreads();
    }
    const float result = shared[0];
    __syncthreads();
    return result;
}

// z: logits of this pixel, [out_channels], in the workspace.
__global__ void __launch_bounds__(THREADS)
    pixel_kernel(assay_plugin_problem p, const float *x, const float *weight,
                 const float *conv_bias, const float *bias, float *workspace, float *y)
{
    __shared__ float shared[THREADS];
    const int64_t pixels = p.output_h * p.output_w;
    const int64_t in_group = p.in_channels / p.groups, out_group = p.out_channels / p.groups;
    float *z = workspace + blockIdx.x * p.out_channels;
    for (int64_t item = blockIdx.x; item < p.batch * pixels; item += gridDim.x) {
        const int64_t n = item / pixels, i = item % pixels;
        const int64_t oh = i / p.output_w, ow = i % p.output_w;
        float maximum = -INFINITY, sum = 0.0f;
        for (int64_t oc = threadIdx.x; oc < p.out_channels; oc += THREADS) {
            float logit = conv_bias ? conv_bias[oc] : 0.0f;
            for (int64_t kh = 0; kh < p.kernel_h; kh++)
                for (int64_t kw = 0; kw < p.kernel_w; kw++) {
                    const int64_t h = oh + p.padding_h - kh * p.dilation_h;
                    const int64_t w = ow + p.padding_w - kw * p.dilation_w;
                    if (h < 0 || w < 0 || h % p.stride_h || w % p.stride_w ||
                        h / p.stride_h >= p.height || w / p.stride_w >= p.width)
                        continue;
                    for (int64_t k = 0; k < in_group; k++) {
                        const int64_t ic = oc / out_group * in_group + k;
                        logit +=
                            x[((n * p.in_channels + ic) * p.height + h / p.stride_h) * p.width +
                              w / p.stride_w] *
                            weight[((ic * out_group + oc % out_group) * p.kernel_h + kh) *
                                       p.kernel_w +
                                   kw];
                    }
                }
            z[oc] = logit;
            maximum = fmaxf(maximum, logit);
        }
        maximum = reduce<true>(maximum, shared);
        for (int64_t oc = threadIdx.x; oc < p.out_channels; oc += THREADS)
            sum += z[oc] = expf(z[oc] - maximum);
        sum = reduce<false>(sum, shared);
        for (int64_t oc = threadIdx.x; oc < p.out_channels; oc += THREADS) {
            const float t = z[oc] / sum + bias[p.bias_count == 1 ? 0 : oc];
            y[(n * p.out_channels + oc) * pixels + i] = 1.0f / (1.0f + expf(-p.scaling_factor * t));
        }
    }
}

static int64_t blocks(const struct assay_plugin_problem *p)
{
    const int64_t pixels = p->batch * p->output_h * p->output_w;
    return pixels < 4096 ? pixels : 4096;
}

static size_t workspace(const struct assay_plugin_problem *p)
{
    return (size_t)(blocks(p) * p->out_channels) * sizeof(float);
}

static int run(struct assay_call *call)
{
    if (blocks(call->problem) == 0)
        return 0;
    pixel_kernel<<<(unsigned)blocks(call->problem), THREADS, 0, (cudaStream_t)call->stream>>>(
        *call->problem, call->x, call->weight, call->conv_bias, call->bias,
        (float *)call->workspace, call->y);
    const cudaError_t code = cudaGetLastError();
    if (code != cudaSuccess)
        snprintf(call->reason, call->reason_size, "launch: %s", cudaGetErrorString(code));
    return code != cudaSuccess;
}

extern "C" const struct assay_plugin *assay_plugin(void)
{
    static struct assay_plugin plugin;
    plugin.abi = ASSAY_PLUGIN_ABI;
    plugin.memory = ASSAY_MEMORY_DEVICE;
    plugin.name = "a block a pixel";
    plugin.arithmetic_class = "fp32";
    plugin.workspace = workspace;
    plugin.run = run;
    return &plugin;
}
