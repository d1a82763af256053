/* The whole model in one kernel on Hopper's tensor cores, of fp32 grade: both operands of a product
 * split in two fp16 halves, three products, fp32 sums.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Covers what gpu-fused-fp16 covers. The kernel, its tile and who holds what: gpu/fused_split.cuh.
 * x is scaled by 128, so that images whose largest |x| is within [0.0078, 512] are computed here;
 * the others, and those with NaN or infinities, in IEEE fp32 by gpu/fused_repair.cuh.
 *
 * Launch: 132 blocks of 640 threads in clusters of two, one a multiprocessor; 96 registers a
 * thread, 24 bytes of spills; 226 KB of shared memory (home case: weights 131,072, ring 65,792).
 *
 * Home case: 3 x 141.8 GFLOP on the tensor cores, floor 0.54 ms at 790 TFLOP/s.
 * NOTE: not measured in this form. Its parts were, on an H200, 2026-11-22: the products, the ring
 * and the exchange on the home case (0.83 ms with the stores of this form, 0.695 without; largest
 * error against fp64 1.9e-7 and 5.7e-7 on kernelbench and conditioned data), the whole on k4 16 x
 * 16 and k3 33 x 47. Like gpu-fused-fp16 it is bound by partly written sectors of y: see there. */
#include "gpu/fused_split.cuh" /* before its plan */

#include "gpu/fused_plan.cuh"

constexpr float kScaleX = 128.0f;

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare(context, kScaleX, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    return fused_launch(context, d_x, d_y, images, stream, kScaleX, error);
}

const struct variant_ops variant_fused_fp16x3 = {
    .info = VARIANT_INFO(fused_fp16x3),
    .supports = fused_supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = fused_release,
};
