/* cuDNN's convolution, then softmax .. sigmoid in one pass, in fp32 and in tf32: the vendor
 * baseline.
 *
 * cuDNN's convolution is timed both in NCHW and channels last when the plan is made, and the faster
 * is kept, the transposition of x counted. In NCHW the pass is gpu/softmax_pass.cu's, in place.
 * From channels last it reads the logits pixel by pixel and writes y through shared memory:
 *
 *     logits [pixel][channel]   a warp reads a pixel: lane holds channels lane, lane + 32, ...
 *     shared [channel][pixel]   pitch PX + 1: both sides free of bank conflicts
 *     y [image][channel][pixel] a warp writes 32 neighbouring pixels of a channel
 *
 * Launch of that pass: 256 threads, 64 pixels (32 for more than 256 channels), 33 KiB of shared
 * memory for 128 channels. Home case: 2.18 GB, floor 0.51 ms, beside the convolution. Measured on
 * an H200 with cuDNN 9.19: tf32 1.58 ms, of which convolution, channels last, 0.64, transposing x
 * 0.10, this pass 0.82; fp32 13.4 ms, of which convolution, NCHW, 12.5. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gpu/conv_tables.h"
#include "gpu/cuda_check.h"
#include "gpu/cudnn.h"
#include "gpu/epilogue_math.cuh"
#include "gpu/softmax_pass.h"

#define THREADS 256
#define WARPS (THREADS / 32)
#define MAX_LAST_CHANNELS 1024

struct state {
    struct cudnn_conv *conv;
    bool channels_last;
    float *d_x_last, *d_logits_last; /* cudnn_conv_images() images each */
};

/* ---- kernels -------------------------------------------------------------------------------- */

/* x [images][channels][plane] -> [images][plane][channels], by 32 x 32 tiles. */
__global__ void __launch_bounds__(THREADS)
    channels_last_kernel(const float *x, float *to, int channels, int64_t plane,
                         int64_t pixel_tiles, int channel_tiles)
{
    __shared__ float tile[32][33];
    const int64_t pixel_tile = blockIdx.x % pixel_tiles, rest = blockIdx.x / pixel_tiles;
    const int first_channel = (int)(rest % channel_tiles) * 32;
    const int64_t image = rest / channel_tiles, first_pixel = pixel_tile * 32;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x += image * channels * plane;
    to += image * channels * plane;
    for (int c = warp; c < 32; c += WARPS)
        if (first_channel + c < channels && first_pixel + lane < plane)
            tile[c][lane] = x[(first_channel + c) * plane + first_pixel + lane];
    __syncthreads();
    for (int p = warp; p < 32; p += WARPS)
        if (first_channel + lane < channels && first_pixel + p < plane)
            to[(first_pixel + p) * channels + first_channel + lane] = tile[lane][p];
}

struct last_args {
    const float *logits; /* [images * plane][channels] */
    float *y;
    const float *conv_bias, *bias;
    int64_t pixels, plane;
    int channels, width; /* width: pixels of a block, 32 or 64 */
    float scale;
};

static __device__ __forceinline__ float warp_maximum(float value)
{
    for (int step = 16; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

static __device__ __forceinline__ float warp_sum(float value)
{
    for (int step = 16; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* VALUES channels a lane; PIXELS of a warp's pixels in flight. */
template <int VALUES, int PIXELS>
__global__ void __launch_bounds__(THREADS)
    finish_channels_last_kernel(const __grid_constant__ last_args args)
{
    extern __shared__ float shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pitch = args.width + 1;
    const int64_t first = (int64_t)blockIdx.x * args.width;

    float conv_bias[VALUES], bias[VALUES];
#pragma unroll
    for (int j = 0; j < VALUES; j++) {
        const bool real = j * 32 + lane < args.channels;
        conv_bias[j] = real ? args.conv_bias[j * 32 + lane] : 0.0f;
        bias[j] = real ? args.bias[j * 32 + lane] : 0.0f;
    }
    for (int base = warp * PIXELS; base < args.width; base += WARPS * PIXELS) {
        float value[PIXELS][VALUES];
#pragma unroll
        for (int k = 0; k < PIXELS; k++) {
            const float *from = args.logits + (first + base + k) * args.channels + lane;
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                value[k][j] = first + base + k < args.pixels && j * 32 + lane < args.channels
                                  ? from[j * 32]
                                  : -INFINITY;
        }
#pragma unroll
        for (int k = 0; k < PIXELS; k++) {
            float largest = -INFINITY, sum = 0.0f;
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                value[k][j] += conv_bias[j];
                largest = fmaxf(largest, value[k][j]);
            }
            const float origin = exponent_origin(warp_maximum(largest));
#pragma unroll
            for (int j = 0; j < VALUES; j++) {
                value[k][j] = fast_exp(value[k][j] - origin);
                sum += value[k][j];
            }
            const float inverse = fast_reciprocal(warp_sum(sum));
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                if (j * 32 + lane < args.channels)
                    shared[(j * 32 + lane) * pitch + base + k] =
                        fast_sigmoid(args.scale * (value[k][j] * inverse + bias[j]));
        }
    }
    __syncthreads();
    for (int p = lane; p < args.width; p += 32) {
        const int64_t pixel = first + p;
        if (pixel >= args.pixels)
            break;
        const int64_t image = pixel / args.plane;
        float *const to =
            args.y + image * args.channels * args.plane + (pixel - image * args.plane);
#pragma unroll 8
        for (int c = warp; c < args.channels; c += WARPS)
            to[c * args.plane] = shared[c * pitch + p];
    }
}

static const struct last_shape {
    int channels, width;
    void (*kernel)(const last_args);
} shapes[] = {
    {32, 64, finish_channels_last_kernel<1, 8>},   {64, 64, finish_channels_last_kernel<2, 8>},
    {128, 64, finish_channels_last_kernel<4, 4>},  {256, 64, finish_channels_last_kernel<8, 2>},
    {512, 32, finish_channels_last_kernel<16, 1>}, {1024, 32, finish_channels_last_kernel<32, 1>},
};

static const struct last_shape *shape_for(const struct problem *p)
{
    const struct last_shape *shape = shapes;
    while (shape->channels < p->out_channels)
        shape++;
    return shape;
}

static int shared_bytes(const struct last_shape *shape, int channels)
{
    return channels * (shape->width + 1) * (int)sizeof(float);
}

/* ---- the variant ---------------------------------------------------------------------------- */

static bool supports(const struct problem *problem, const struct cudaDeviceProp *, char *reason,
                     size_t reason_size)
{
    return conv_tables_supports(problem, reason, reason_size) &&
           cudnn_conv_supports(problem, reason, reason_size);
}

static bool may_be_last(const struct problem *p)
{
    return p->groups == 1 && p->in_channels % 4 == 0 && p->out_channels % 4 == 0 &&
           p->out_channels <= MAX_LAST_CHANNELS;
}

static size_t workspace(const struct problem *p, int64_t images)
{
    const size_t image = (size_t)(problem_input_image(p) + problem_output_image(p)) * sizeof(float);
    return CUDNN_WORKSPACE + (may_be_last(p) ? (size_t)images * image + CUDNN_WORKSPACE : 0);
}

static enum status to_channels_last(const struct problem *p, const float *d_x, float *d_to,
                                    int64_t images, cudaStream_t stream, struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t plane = p->height * p->width, pixel_tiles = (plane + 31) / 32;
    const int channel_tiles = (int)((p->in_channels + 31) / 32);
    channels_last_kernel<<<(unsigned)(pixel_tiles * channel_tiles * images), THREADS, 0, stream>>>(
        d_x, d_to, (int)p->in_channels, plane, pixel_tiles, channel_tiles);
    CHECK_LAUNCH("channels_last_kernel");
out:
    return status;
}

/* Makes the channels-last form; *seconds is its time, the transposition of x counted. */
static enum status try_last(struct variant_context *context, struct state *s, bool tf32,
                            struct cudnn_conv **conv, double *seconds, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &context->problem;
    cudaEvent_t start = NULL, stop = NULL;
    float ms;
    if ((status = cudnn_conv_create(conv, context, tf32, true, error)) != STATUS_OK)
        return status;
    const int64_t images = cudnn_conv_images(*conv);
    CHECK(cudaMalloc(&s->d_x_last, (size_t)(images * problem_input_image(p)) * sizeof(float)));
    CHECK(
        cudaMalloc(&s->d_logits_last, (size_t)(images * problem_output_image(p)) * sizeof(float)));
    CHECK(cudaMemset(s->d_logits_last, 0,
                     (size_t)(images * problem_output_image(p)) * sizeof(float)));
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    *seconds = 0.0;
    /* The logits stand in for x; where they are smaller, the transposition is not worth timing. */
    for (int i = 0; i < 2 && problem_output_image(p) >= problem_input_image(p); i++) {
        CHECK(cudaEventRecord(start));
        status = to_channels_last(p, s->d_logits_last, s->d_x_last, images, NULL, error);
        if (status != STATUS_OK)
            goto out;
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        *seconds = 1e-3 * ms;
    }
    *seconds += cudnn_conv_seconds(*conv);
    /* For all the shape's channels: the limit is the kernel's, and another plan may have more. */
    CHECK(cudaFuncSetAttribute(shape_for(p)->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               shared_bytes(shape_for(p), shape_for(p)->channels)));
out:
    if (stop)
        cudaEventDestroy(stop);
    if (start)
        cudaEventDestroy(start);
    return status;
}

template <bool TF32>
static enum status prepare(struct variant_context *context, struct error *error)
{
    struct cudnn_conv *last = NULL;
    struct error ignored;
    double last_s = 1e30;
    struct state *s = (struct state *)calloc(1, sizeof *s);
    if (!s)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = s;
    enum status status = cudnn_conv_create(&s->conv, context, TF32, false, error);
    if (status != STATUS_OK && status != STATUS_UNSUPPORTED)
        return status;
    const double first_s = s->conv ? cudnn_conv_seconds(s->conv) : 1e30;
    if (may_be_last(&context->problem) &&
        try_last(context, s, TF32, &last, &last_s, &ignored) == STATUS_OK && last_s < first_s) {
        cudnn_conv_free(s->conv);
        s->conv = last;
        s->channels_last = true;
        status = STATUS_OK;
    } else {
        cudnn_conv_free(last);
        cudaFree(s->d_x_last);
        cudaFree(s->d_logits_last);
        s->d_x_last = s->d_logits_last = NULL;
    }
    if (s->conv) {
        context->varies = cudnn_conv_varies(s->conv);
        snprintf(context->note, sizeof context->note, "%s", cudnn_conv_note(s->conv));
    }
    return status;
}

static enum status launch_last(struct variant_context *context, const float *d_x, float *d_y,
                               int64_t images, cudaStream_t stream, struct error *error)
{
    const struct problem *p = &context->problem;
    struct state *s = (struct state *)context->state;
    const struct last_shape *shape = shape_for(p);
    const int64_t plane = problem_output_h(p) * problem_output_w(p);
    const last_args args = {.logits = s->d_logits_last,
                            .y = d_y,
                            .conv_bias = context->d_conv_bias,
                            .bias = context->d_bias,
                            .pixels = images * plane,
                            .plane = plane,
                            .channels = (int)p->out_channels,
                            .width = shape->width,
                            .scale = p->scaling_factor};
    enum status status = to_channels_last(p, d_x, s->d_x_last, images, stream, error);
    if (status == STATUS_OK)
        status = cudnn_conv_launch(s->conv, s->d_x_last, s->d_logits_last, images, stream, error);
    if (status != STATUS_OK)
        return status;
    shape->kernel<<<(unsigned)((args.pixels + shape->width - 1) / shape->width), THREADS,
                    shared_bytes(shape, args.channels), stream>>>(args);
    CHECK_LAUNCH("finish_channels_last_kernel");
out:
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    const struct problem *p = &context->problem;
    struct state *s = (struct state *)context->state;
    enum status status = STATUS_OK;
    if (!s->channels_last) {
        status = cudnn_conv_launch(s->conv, d_x, d_y, images, stream, error);
        if (status == STATUS_OK)
            status = softmax_pass_launch(context, d_y, images, true, true, stream, error);
        return status;
    }
    const int64_t most = cudnn_conv_images(s->conv);
    for (int64_t first = 0; first < images && status == STATUS_OK; first += most)
        status = launch_last(context, d_x + first * problem_input_image(p),
                             d_y + first * problem_output_image(p),
                             images - first < most ? images - first : most, stream, error);
    return status;
}

static void release(struct variant_context *context)
{
    struct state *s = (struct state *)context->state;
    if (!s)
        return;
    cudnn_conv_free(s->conv);
    cudaFree(s->d_logits_last);
    cudaFree(s->d_x_last);
    free(s);
    context->state = NULL;
}

const struct variant_ops variant_cudnn_post_conv = {
    .info = VARIANT_INFO(cudnn_post_conv),
    .supports = supports,
    .workspace = workspace,
    .prepare = prepare<false>,
    .launch = launch,
    .release = release,
};

const struct variant_ops variant_cudnn_post_conv_tf32 = {
    .info = VARIANT_INFO(cudnn_post_conv_tf32),
    .supports = supports,
    .workspace = workspace,
    .prepare = prepare<true>,
    .launch = launch,
    .release = release,
};
