/* softmax .. sigmoid over the channels of each pixel, in place, one read and one write.
 *
 *     y[n, c, p] = sigmoid(scale * (exp(l[n, c, p] - max) / sum + bias[c]))      p = oh * Wo + ow
 *
 * A block holds PX neighbouring pixels in registers, all their channels split among G threads each:
 *
 *                  pixels 0 .. PX - 1 (neighbours in memory: coalesced)
 *     channel  0   thread (0, g=0)   thread (1, 0) ...        thread (px, g) holds channels
 *     channel  1   thread (0, g=1)   thread (1, 1) ...        g, g + G, g + 2 G, ...
 *
 * Maximum and sum meet in shared memory. Planes of Ho * Wo elements are not aligned to sectors, so
 * each row of PX floats costs one sector more than it fills: PX is as wide as registers allow.
 *
 * Launch for 128 channels: 64 pixels x 4 threads, 32 values a thread, 4 blocks a multiprocessor
 * (128 KiB in flight on each). More than 1024 channels: the pixel is read twice, 1024 at a time.
 * Home case: 2.18 GB, floor 0.51 ms at a copy rate of 4.29 TB/s; three special functions an
 * element, 0.22 ms, under the memory's time. Measured on an H200: 0.597 ms, 86 % of the copy rate.
 */
#include "gpu/softmax_pass.h"

#include "gpu/cuda_check.h"
#include "gpu/epilogue_math.cuh"

struct pass_args {
    float *y;
    const float *conv_bias, *bias;
    int64_t pixels, plane, image; /* image: elements of one image of y */
    int channels;
    float scale;
    int width, shares; /* PX, G */
};

#define PASS_MAX_THREADS 1024

/* The maximum or sum over the threads that share a pixel. `shared` has a slot for each thread. */
template <bool MAXIMUM>
static __device__ __forceinline__ float across_shares(float value, float *shared, int px, int width,
                                                      int shares)
{
    if (shares == 1)
        return value;
    shared[threadIdx.x] = value;
    __syncthreads();
    float all = shared[px];
    for (int g = 1; g < shares; g++)
        all = MAXIMUM ? fmaxf(all, shared[g * width + px]) : all + shared[g * width + px];
    __syncthreads();
    return all;
}

template <int VALUES, bool FINISH>
static __device__ __forceinline__ void store_values(const pass_args &args, float *to, int first,
                                                    int step, bool real, float inverse,
                                                    const float (&value)[VALUES])
{
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        const int c = first + j * step;
        if (real && c < args.channels) {
            float p = value[j] * inverse;
            if (FINISH)
                p = fast_sigmoid(args.scale * (p + args.bias[c]));
            *to = p;
        }
        to += step * args.plane;
    }
}

template <int VALUES, bool CONV_BIAS>
static __device__ __forceinline__ void load_values(const pass_args &args, const float *from,
                                                   int first, int step, bool real,
                                                   float (&value)[VALUES])
{
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        value[j] = real && first + j * step < args.channels ? *from : -INFINITY;
        from += step * args.plane;
    }
    if (CONV_BIAS)
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            if (first + j * step < args.channels)
                value[j] += args.conv_bias[first + j * step];
}

/* This thread's pixel in y; false where there is none. */
static __device__ __forceinline__ bool pass_pixel(const pass_args &args, int px, float **at)
{
    const int64_t pixel = (int64_t)blockIdx.x * args.width + px;
    if (pixel >= args.pixels)
        return false;
    int64_t image, in_plane;
    if (args.pixels < (1ll << 32)) {
        image = (unsigned)pixel / (unsigned)args.plane;
        in_plane = (unsigned)pixel - (unsigned)image * (unsigned)args.plane;
    } else {
        image = pixel / args.plane;
        in_plane = pixel - image * args.plane;
    }
    *at = args.y + image * args.image + in_plane;
    return true;
}

/* All channels of a pixel in registers: channels <= VALUES * shares. */
template <int VALUES, bool CONV_BIAS, bool FINISH>
__global__ void __launch_bounds__(VALUES > 8 ? PASS_MAX_THREADS : 256)
    softmax_pass_kernel(const __grid_constant__ pass_args args)
{
    __shared__ float shared[PASS_MAX_THREADS];
    const int px = threadIdx.x % args.width, g = threadIdx.x / args.width;
    float *at = args.y;
    const bool real = pass_pixel(args, px, &at);
    at += g * args.plane;

    float value[VALUES], largest = -INFINITY, sum = 0.0f;
    load_values<VALUES, CONV_BIAS>(args, at, g, args.shares, real, value);
#pragma unroll
    for (int j = 0; j < VALUES; j++)
        largest = fmaxf(largest, value[j]);
    largest = across_shares<true>(largest, shared, px, args.width, args.shares);
    const float origin = exponent_origin(largest);
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        value[j] = fast_exp(value[j] - origin);
        sum += value[j];
    }
    sum = across_shares<false>(sum, shared, px, args.width, args.shares);
    store_values<VALUES, FINISH>(args, at, g, args.shares, real, fast_reciprocal(sum), value);
}

/* Any number of channels, VALUES * shares at a time, each read twice. */
template <int VALUES, bool CONV_BIAS, bool FINISH>
__global__ void __launch_bounds__(PASS_MAX_THREADS)
    softmax_pass_wide_kernel(const __grid_constant__ pass_args args)
{
    __shared__ float shared[PASS_MAX_THREADS];
    const int px = threadIdx.x % args.width, g = threadIdx.x / args.width;
    const int block = VALUES * args.shares;
    float *at = args.y;
    const bool real = pass_pixel(args, px, &at);
    at += g * args.plane;

    float value[VALUES], largest = -INFINITY, sum = 0.0f;
    for (int first = 0; first < args.channels; first += block) {
        load_values<VALUES, CONV_BIAS>(args, at + first * args.plane, first + g, args.shares, real,
                                       value);
        float larger = largest;
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            larger = fmaxf(larger, value[j]);
        const float origin = exponent_origin(larger);
        sum *= fast_exp(largest - origin);
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            sum += fast_exp(value[j] - origin);
        largest = larger;
    }
    const float mine = largest;
    largest = across_shares<true>(largest, shared, px, args.width, args.shares);
    const float origin = exponent_origin(largest);
    sum *= fast_exp(mine - origin);
    sum = across_shares<false>(sum, shared, px, args.width, args.shares);
    const float inverse = fast_reciprocal(sum);
    for (int first = 0; first < args.channels; first += block) {
        load_values<VALUES, CONV_BIAS>(args, at + first * args.plane, first + g, args.shares, real,
                                       value);
#pragma unroll
        for (int j = 0; j < VALUES; j++)
            value[j] = fast_exp(value[j] - origin);
        store_values<VALUES, FINISH>(args, at + first * args.plane, first + g, args.shares, real,
                                     inverse, value);
    }
}

/* Shapes by the channels they hold; the last takes the rest, wide. */
struct pass_shape {
    int channels, width, shares;
    void (*kernel[2][2])(const pass_args); /* [add conv_bias][finish] */
};

#define NARROW(values)                                                                             \
    {                                                                                              \
        {softmax_pass_kernel<values, false, false>, softmax_pass_kernel<values, false, true>},     \
        {                                                                                          \
            softmax_pass_kernel<values, true, false>, softmax_pass_kernel<values, true, true>      \
        }                                                                                          \
    }
#define WIDE(values)                                                                               \
    {                                                                                              \
        {softmax_pass_wide_kernel<values, false, false>,                                           \
         softmax_pass_wide_kernel<values, false, true>},                                           \
        {                                                                                          \
            softmax_pass_wide_kernel<values, true, false>,                                         \
                softmax_pass_wide_kernel<values, true, true>                                       \
        }                                                                                          \
    }

static const struct pass_shape shapes[] = {
    {8, 256, 1, NARROW(8)},     {32, 256, 1, NARROW(32)}, {64, 128, 2, NARROW(32)},
    {128, 64, 4, NARROW(32)},   {256, 64, 8, NARROW(32)}, {512, 32, 16, NARROW(32)},
    {1024, 32, 32, NARROW(32)}, {0, 32, 32, WIDE(32)},
};

enum status softmax_pass_launch(const struct variant_context *context, float *d_y, int64_t images,
                                bool add_conv_bias, bool finish, cudaStream_t stream,
                                struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    const struct pass_shape *shape = shapes;
    while (shape->channels && shape->channels < p->out_channels)
        shape++;
    const int64_t plane = problem_output_h(p) * problem_output_w(p);
    const pass_args args = {.y = d_y,
                            .conv_bias = context->d_conv_bias,
                            .bias = context->d_bias,
                            .pixels = images * plane,
                            .plane = plane,
                            .image = problem_output_image(p),
                            .channels = (int)p->out_channels,
                            .scale = p->scaling_factor,
                            .width = shape->width,
                            .shares = shape->shares};
    const int64_t blocks = (args.pixels + shape->width - 1) / shape->width;
    if (blocks > 2147483647)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%lld pixels are more than a grid holds; use a smaller batch",
                         (long long)args.pixels);
    shape->kernel[add_conv_bias]
                 [finish]<<<(unsigned)blocks, shape->width * shape->shares, 0, stream>>>(args);
    CHECK_LAUNCH("softmax_pass_kernel");
out:
    return status;
}
