/* The fused tile kernel (gpu/fused_tile.cuh) as a form of gpu-fused-fp16 (gpu/fused_fp16.cu). */
#include "gpu/fused_tile.cuh" /* before its plan */

#include "gpu/fused_forms.h"
#include "gpu/fused_plan.cuh"

constexpr float kScaleX = 16.0f;

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare(context, kScaleX, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    return fused_launch(context, d_x, d_y, images, stream, kScaleX, error);
}

const struct variant_ops fused_form_tile = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = fused_supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = fused_release,
};
