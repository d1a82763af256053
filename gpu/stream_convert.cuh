/* The first of the streaming form's kernels: x, NCHW fp32, to fp16, channels last, times a power of
 * two, in one part or as high and low halves; and each image's largest |x| (internal to gpu/). */
#ifndef ASSAY_GPU_STREAM_CONVERT_CUH
#define ASSAY_GPU_STREAM_CONVERT_CUH

#include "gpu/stream_args.cuh"

constexpr int kConvertThreads = 256;
constexpr int kConvertPixels = 64, kConvertChannels = 64; /* of a block */

/* Grid: blocks of 64 pixels (of all images, one after the other) by blocks of 64 channels. A thread
 * reads 8 channels of a pixel, twice, and stores them as 16 bytes; these are turned in shared
 * memory so that a warp writes 128 contiguous bytes of each of four pixels. */
template <int kParts>
static __global__ void __launch_bounds__(kConvertThreads)
    stream_convert_kernel(const __grid_constant__ struct stream_args args)
{
    __shared__ __align__(16) uint4 turned[kParts][kConvertPixels][8];
    __shared__ uint32_t warp_max[kConvertThreads / 32];
    const struct stream_geometry &g = args.geometry;
    const uint32_t plane = (uint32_t)g.input_plane;
    const uint32_t pixels = (uint32_t)g.images * plane;
    const uint32_t first = blockIdx.x * kConvertPixels;
    const int first_channel = blockIdx.y * kConvertChannels;
    const int column = threadIdx.x & 63, share = threadIdx.x >> 6;
    const uint32_t pixel = first + column;
    const uint32_t image = min(pixel, pixels - 1) / plane;
    const float *source = args.x + (int64_t)image * g.in_channels * plane + (pixel - image * plane);
    uint32_t largest = 0;

    wait_for_prerequisites();
    dependents_may_launch();
    const uint32_t epoch = *(volatile uint32_t *)&args.notes->epoch;
    uint32_t *const image_max = args.notes->image_max + (epoch & 1) * args.notes_images;
    if (blockIdx.x == 0 && blockIdx.y == 0) {
        uint32_t *const next = args.notes->image_max + (~epoch & 1) * args.notes_images;
        for (int i = threadIdx.x; i < args.notes_images; i += kConvertThreads)
            next[i] = 0;
        if (threadIdx.x == 0)
            args.notes->current = epoch;
    }
    float value[2][8];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const int channel = first_channel + (share + 4 * i) * 8 + j;
            value[i][j] =
                pixel < pixels && channel < g.in_channels ? source[(int64_t)channel * plane] : 0.0f;
        }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int group = share + 4 * i;
        uint32_t high[4], low[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float a = value[i][2 * j], b = value[i][2 * j + 1];
            largest = max(largest,
                          max(__float_as_uint(a) & 0x7fffffffu, __float_as_uint(b) & 0x7fffffffu));
            const __half2 h = __floats2half2_rn(a * args.x_scale, b * args.x_scale);
            high[j] = *(const uint32_t *)&h;
            if (kParts == 2) {
                const __half2 l = __floats2half2_rn(a * args.x_scale - __low2float(h),
                                                    b * args.x_scale - __high2float(h));
                low[j] = *(const uint32_t *)&l;
            }
        }
        turned[0][column][group ^ (column & 7)] = make_uint4(high[0], high[1], high[2], high[3]);
        if (kParts == 2)
            turned[kParts - 1][column][group ^ (column & 7)] =
                make_uint4(low[0], low[1], low[2], low[3]);
    }

    /* One atomic a block where it lies in one image, else one for each image in a warp. */
    const uint32_t last = min(first + kConvertPixels, pixels) - 1;
    const bool one_image = first / plane == last / plane;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    if (one_image) {
        largest = __reduce_max_sync(~0u, largest);
        if (lane == 0)
            warp_max[warp] = largest;
    } else {
        const uint32_t same = __match_any_sync(~0u, image);
        largest = __reduce_max_sync(same, largest);
        if (lane == __ffs(same) - 1)
            atomicMax(image_max + image, largest);
    }
    __syncthreads();
    if (one_image && threadIdx.x == 0) {
        for (int i = 1; i < kConvertThreads / 32; i++)
            largest = max(largest, warp_max[i]);
        atomicMax(image_max + image, largest);
    }
#pragma unroll
    for (int i = 0; i < 2 * kParts; i++) {
        const int item = threadIdx.x + (i & 1) * kConvertThreads;
        const int to = item / 8, group = item & 7, part = i >> 1;
        const int channel = first_channel + group * 8;
        if (first + to < pixels && channel < g.padded_channels)
            *(uint4 *)(args.x_half + ((int64_t)(first + to) * kParts + part) * g.padded_channels +
                       channel) = turned[part][to][group ^ (to & 7)];
    }
}

#endif
