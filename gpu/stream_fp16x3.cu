/* gpu-stream-fp16 at fp32 grade: both operands of a product split in two fp16 halves, three
 * products, fp32 sums.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Covers what gpu-stream-fp16 covers, by the same kernels (gpu/stream_tile.cuh): x is converted to
 * its high and low halves, a stage holds both of x and of the weights. x is scaled by 128, so that
 * images whose largest |x| is at most 512 are computed here (by more, and so fewer images, where
 * weights are large or far apart: gpu/fp16_range.h); the rest, and those with NaN or infinities, in
 * IEEE fp32.
 *
 * H200, 2026-11-22: verify passed (300 random problems, data/suites/networks.txt, home); the home
 * case in 1.66 ms, 3.0 x its floor. Not timed on other lines yet. */
#include <stdio.h>

#include "gpu/stream_plan.cuh"

/* stream_tile<columns, parts, blocks, stages>, narrowest first */
static const struct stream_kernel_row table[] = {
    STREAM_ROW(16, 2, 3, 3),  STREAM_ROW(32, 2, 2, 3),  STREAM_ROW(64, 2, 2, 6),
    STREAM_ROW(128, 2, 2, 4), STREAM_ROW(192, 2, 1, 6), STREAM_ROW(256, 2, 1, 5)};

static size_t workspace(const struct problem *problem, int64_t images)
{
    return stream_x_bytes(problem, images, 2);
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

const struct variant_ops variant_stream_fp16x3 = {
    .info = VARIANT_INFO(stream_fp16x3),
    .supports = stream_supports,
    .workspace = workspace,
    .prepare = prepare,
    .launch = launch,
    .release = stream_release,
};
