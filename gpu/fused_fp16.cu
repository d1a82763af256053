#include "gpu/fused_plan.cuh"

typedef fused_shape<2, 1, 1> shape;
constexpr float kScaleX = 16.0f;

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare<shape>(context, kScaleX, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y, int64_t images,
                          cudaStream_t stream, struct error *error)
{
    return fused_launch<shape>(context, d_x, d_y, images, stream, kScaleX, error);
}

extern const struct variant_ops variant_fused_fp16;
const struct variant_ops variant_fused_fp16 = {
    {"gpu-fused-fp16", "one kernel: tensor cores on scaled fp16, fp32 accumulation", CLASS_TF32},
    fused_supports<shape>, NULL, prepare, launch, fused_release};
