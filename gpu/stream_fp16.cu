/* The whole model on Hopper's tensor cores for any transposed convolution of one group: x is
 * converted once, then one kernel does the rest; the logits never leave the chip.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Any kernel up to 128 a side, stride, padding, output_padding and dilation; up to 2048 output
 * channels. The kernels, their tile and who holds what: gpu/stream_tile.cuh.
 *
 * Class tf32, with gpu-fused-fp16's scales: W by its largest magnitude at prepare, x by 16, so that
 * images whose largest |x| is at most 4094, and at least 0.03125 where weights are large, keep the
 * class's bound (gpu/fp16_range.h); others in IEEE fp32.
 *
 * Launch: as many blocks as there are tiles; 160 to 256 threads, 64 to 168 registers, no spills.
 * Shared memory: ring of 3 to 10 stages, 31 to 206 KB, and 1 to 20 KB of tables.
 *
 * data/suites/networks.txt on an H200, us, median of graph replays or events, 2026-11-23; floors by
 * bytes (4.23 TB/s) and by the tensor cores (760 TFLOP/s); cudnn-post-conv-tf32 of the day before.
 * The home case: 966 us, and 1648 us for gpu-stream-fp16x3.
 *
 * torch.compile (max-autotune, tf32) beside it: small 77, dcgan 64, 164, 88, 106, 188, unet 70, 65,
 * 76, 110, cyclegan 71, 65, fsrcnn 177, fcn8s 198, fcn32s 241: 1.7 to 12.4 x as long.
 *
 *                     phases  columns  blocks   bytes  tensor    this   cuDNN
 *     small           1 x 2      128     1156     9.5     2.7    40.4    60.3    1.5
 *     dcgan-1         1 x 4      256   8 x  8     1.8     0.3    16.9    21.4    1.3
 *     dcgan-2         1 x 1      256      128     5.0     8.7    34.4    97.6    2.8
 *     dcgan-3         1 x 2      256      288     6.5     9.9    52.4    67.4    1.3
 *     dcgan-4         1 x 2      128     1088    12.0    10.6    56.5    95.2    1.7
 *     dcgan-5         2 x 2       16     2178     9.4     1.0    49.2   158.7    3.2
 *     unet-1          1 x 2      256   4 x 26     4.3     4.3    19.1    50.6    2.6
 *     unet-2          1 x 2      128   4 x 86     4.4     3.7    21.8    42.8    2.0
 *     unet-3          1 x 2      256      314     7.4     3.5    25.8    51.2    2.0
 *     unet-4          2 x 2      256      601    14.0     3.3    40.9    80.6    2.0
 *     cyclegan-1      1 x 2      256      130     3.3     3.2    19.0    40.3    2.1
 *     cyclegan-2      2 x 2      256      261     6.0     3.2    22.9    47.2    2.1
 *     fsrcnn-x4       4 x 4       16     2025     8.8     1.5    65.4   325.9    5.0
 *     fcn8s-upscore8  1 x 8      192      496     5.1     1.1    18.2    93.9    5.2
 *     fcn32s-upscore  1 x 8      192      512     6.2     0.9    19.4
 *
 * Where the time goes, clocks of a consumer warp (1.9 GHz):
 *
 *                 start  conversion  first stage  products     softmax ..  store
 *     unet-4        900        5500         1500   2200 (4)          5700   7700
 *     dcgan-4       900        5500         1500   9900 (16)         5700   9500
 *     dcgan-2      1100        4500         1200  29000 (64, alone)  5200  11000
 *     fcn8s         900        2000         1600   1900 (4)          4500  11600
 *
 * What bounds it: the products, 620 clocks a step of two blocks' 41 KB, which is what one
 * multiprocessor can take from L2 (64 bytes a clock); softmax .. sigmoid, three special functions
 * an element, 3072 clocks a tile and block; and latency in the store, one warp a scheduler and
 * block.
 *
 * Rungs, predicted -> measured (us):
 *
 *     - x's copies waited for in order by the producer, with a proxy fence for each stage, dcgan-2
 *       45.8; arrivals by the copies themselves and the fence by the consumer, 45.8: no limit.
 *     - A ring of 10 stages, one block a multiprocessor: dcgan-2 45.4 -> 36.2, unet-1 27.9 -> 20.5.
 *     - Weights multicast to clusters of two or four, a half or a quarter of L2's reads: dcgan-2
 *       36.2 -> 37.0, dcgan-4 62 -> 70. What a multiprocessor takes in stays the same.
 *     - 128 patches a block by two consumer warpgroups: dcgan-4 62 -> 68, cyclegan-2 24 -> 26.
 *     - Softmax by rolled loops over shared memory instead of unrolled ones over the accumulators,
 *       for fear of cold instructions: unet-4 47 -> 50, fcn8s 36 -> 42.
 *     - Ranks' maxima and sums pushed to the other blocks instead of pulled: dcgan-1 22 -> 20.
 *     - Blocks that loop over tiles: fcn8s 30.7 -> 27.1, but fsrcnn 71 -> 81, unet-4 45 -> 53.
 *     - A window of stores costs 600 clocks before its first output, and every warp took a quarter
 *       of the channels of all windows; now each takes windows of its own, whole. Predicted: 4000
 *       clocks a tile less (unet-4 45 -> 39, fcn8s 27 -> 22); unet-4 40.9, fcn8s 18.2. */
#include <stdio.h>

#include "gpu/stream_plan.cuh"

/* stream_tile<columns, parts, blocks, stages, loop>, narrowest first */
static const struct stream_kernel_row table[] = {
    STREAM_ROW(16, 1, 4, 3),  STREAM_ROW(32, 1, 4, 3),  STREAM_ROW(64, 1, 4, 6),
    STREAM_ROW(128, 1, 3, 5), STREAM_ROW(192, 1, 2, 6), STREAM_ROW(192, 1, 2, 3, true),
    STREAM_ROW(256, 1, 2, 5), STREAM_ROW(256, 1, 1, 10)};

static size_t workspace(const struct problem *problem, int64_t images)
{
    return stream_x_bytes(problem, images, 1);
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    return stream_prepare(context, table, sizeof table / sizeof *table, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    return stream_launch(context, d_x, d_y, images, stream, error);
}

const struct variant_ops variant_stream_fp16 = {
    .info = VARIANT_INFO(stream_fp16),
    .supports = stream_supports,
    .workspace = workspace,
    .prepare = prepare,
    .launch = launch,
    .release = stream_release,
};
