#include "gpu/fused_plan.cuh"

typedef fused_shape<1, 2, 3> shape;
constexpr float kScaleX = 128.0f;

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare<shape>(context, kScaleX, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y, int64_t images,
                          cudaStream_t stream, struct error *error)
{
    return fused_launch<shape>(context, d_x, d_y, images, stream, kScaleX, error);
}

extern const struct variant_ops variant_fused_fp16x3;
const struct variant_ops variant_fused_fp16x3 = {
    {"gpu-fused-fp16x3", "one kernel: tensor cores on split fp16, three products, fp32 grade", CLASS_FP32},
    fused_supports<shape>, NULL, prepare, launch, fused_release};
