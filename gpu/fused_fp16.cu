#include "gpu/fused_plan.cuh"

constexpr int kDepth = 3;
constexpr float kScaleX = 16.0f;

static bool supports(const struct problem *p, const struct cudaDeviceProp *device, char *reason, size_t reason_size)
{
    (void)p; (void)device; (void)reason; (void)reason_size;
    return true;
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare<2, 128, 1>(context, kDepth, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y, int64_t images,
                          cudaStream_t stream, struct error *error)
{
    return fused_launch<2, 128, 1>(context, d_x, d_y, images, stream, kDepth, kScaleX, error);
}

extern const struct variant_ops variant_fused_fp16;
const struct variant_ops variant_fused_fp16 = {
    {"gpu-fused-fp16", "one kernel: tensor cores on scaled fp16, fp32 accumulation", CLASS_TF32},
    supports, NULL, prepare, launch, fused_release};
