/* The whole model in one kernel on Hopper's tensor cores, of fp32 grade: both operands of a product
 * split in two fp16 halves, three products, fp32 sums.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Stride 2, kernels of up to 4 x 4, up to 64 input and 128 output channels, any batch; other
 * shapes: gpu/stream_fp16x3.cu. The kernel, its tile and who holds what: gpu/fused_split.cuh. x is
 * scaled by 128, so that images whose largest |x| is within [0.0078, 512] are computed here; the
 * others, and those with NaN or infinities, in IEEE fp32 by gpu/fused_repair.cuh.
 *
 * Launch: 132 blocks of 640 threads in clusters of two, one a multiprocessor; 96 registers a
 * thread, 24 bytes of spills; 226 KB of shared memory (home case: weights 131,072, ring 65,792).
 *
 * Home case: 3 x 141.8 GFLOP on the tensor cores, floor 0.54 ms at 790 TFLOP/s.
 *
 * H200, 2026-11-22: 0.861 ms (1.6 x that floor) alternating with itself, 0.957 ms among other
 * kernels, where the power cap holds the clock; PyTorch in fp32 beside it: eager 19.1,
 * torch.compile 14.3 ms. Largest error 0.63 of the fp32 bound. It is bound by partly written
 * sectors of y: without the stores 0.695. */
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
