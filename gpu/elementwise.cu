/* y += bias, y *= scale, y = sigmoid(y), and the three in one: elementwise, in place.
 *
 * A block takes SPAN consecutive elements of y, 8 to a thread in steps of 256, so that all loads of
 * a thread are in flight together and each is coalesced whatever the alignment of a plane. Where
 * the span lies in one plane, as most do, the channel is found once for the block.
 *
 * Launch: 256 threads. Home case: 2.18 GB each, floor 0.51 ms at a copy rate of 4.29 TB/s. */
#include "gpu/elementwise.h"

#include "gpu/cuda_check.h"
#include "gpu/epilogue_math.cuh"

#define THREADS 256
#define EACH 8
#define SPAN (THREADS * EACH)

enum step { STEP_ADD_BIAS, STEP_SCALE, STEP_SIGMOID, STEP_ALL };

struct step_args {
    float *y;
    const float *bias;
    int64_t count, plane;
    int channels;
    float scale;
};

template <int STEP>
__global__ void __launch_bounds__(THREADS)
    elementwise_kernel(const __grid_constant__ step_args args)
{
    const int64_t first = (int64_t)blockIdx.x * SPAN;
    float *const at = args.y + first + threadIdx.x;
    const int left = args.count - first < SPAN ? (int)(args.count - first) : SPAN;
    float value[EACH], bias[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if ((int)threadIdx.x + i * THREADS < left)
            value[i] = at[i * THREADS];

    if (STEP == STEP_ADD_BIAS || STEP == STEP_ALL) {
        const int64_t row = first / args.plane, in_plane = first - row * args.plane;
        const int channel = (int)(row % args.channels);
        const bool one = in_plane + SPAN <= args.plane;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int c = channel;
            if (!one) {
                const int64_t rows = (in_plane + threadIdx.x + i * THREADS) / args.plane;
                c = (int)((channel + rows) % args.channels);
            }
            bias[i] = args.bias[c];
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if ((int)threadIdx.x + i * THREADS < left)
            at[i * THREADS] = STEP == STEP_ADD_BIAS ? value[i] + bias[i]
                              : STEP == STEP_SCALE  ? value[i] * args.scale
                              : STEP == STEP_SIGMOID
                                  ? fast_sigmoid(value[i])
                                  : fast_sigmoid(args.scale * (value[i] + bias[i]));
}

template <int STEP>
static enum status step_launch(const struct variant_context *context, float *d_y, int64_t images,
                               cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const step_args args = {.y = d_y,
                            .bias = context->d_bias,
                            .count = images * problem_output_image(p),
                            .plane = problem_output_h(p) * problem_output_w(p),
                            .channels = (int)p->out_channels,
                            .scale = p->scaling_factor};
    const int64_t blocks = (args.count + SPAN - 1) / SPAN;
    if (blocks > 2147483647)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%lld elements are more than a grid holds; use a smaller batch",
                         (long long)args.count);
    elementwise_kernel<STEP><<<(unsigned)blocks, THREADS, 0, stream>>>(args);
    CHECK_LAUNCH("elementwise_kernel");
out:
    return status;
}

enum status add_bias_launch(const struct variant_context *context, float *d_y, int64_t images,
                            cudaStream_t stream, struct error *error)
{
    return step_launch<STEP_ADD_BIAS>(context, d_y, images, stream, error);
}

enum status scale_launch(const struct variant_context *context, float *d_y, int64_t images,
                         cudaStream_t stream, struct error *error)
{
    return step_launch<STEP_SCALE>(context, d_y, images, stream, error);
}

enum status sigmoid_launch(const struct variant_context *context, float *d_y, int64_t images,
                           cudaStream_t stream, struct error *error)
{
    return step_launch<STEP_SIGMOID>(context, d_y, images, stream, error);
}

enum status add_scale_sigmoid_launch(const struct variant_context *context, float *d_y,
                                     int64_t images, cudaStream_t stream, struct error *error)
{
    return step_launch<STEP_ALL>(context, d_y, images, stream, error);
}
