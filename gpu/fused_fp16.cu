/* The whole model on Hopper's tensor cores at tf32's accuracy; the logits never leave the chip.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Two forms, the first that supports the problem:
 *
 *     gpu/fused_rows.cu      stride 2, kernels of up to 4 x 4, padding of up to 1, rows of 96 to
 *                            129 outputs, up to 64 input and 128 output channels: weights stay on
 *                            chip, every sector of y is written once and whole
 *     gpu/stream_fp16.cu     any other shape; gpu-stream-fp16 is this one alone
 *
 * Class tf32: fp16 keeps tf32's 10 bits. What it lacks is range, which powers of two give back: W
 * is scaled by its largest magnitude at prepare, x by 16, so that images whose largest |x| is at
 * most 4094, and at least 0.03125 where weights are large, keep the class's bound
 * (gpu/fp16_range.h). The kernel notes the largest |x| of every image, and gpu/fused_repair.cuh,
 * which follows in the stream, computes the others again in IEEE fp32: images out of range, with
 * NaN or infinities, those whose softmax would need a maximum subtracted (gpu/fused_rows.cuh), or
 * all of them where a weight is not finite. A pass over x beforehand would cost 31 us. The choice
 * is an image's own, so bits don't depend on slicing.
 *
 * What the forms measure and what was tried: gpu/fused_rows.cu, gpu/stream_fp16.cu. */
#include <string.h>

#include "gpu/choice.cuh"
#include "gpu/fused_forms.h"

static const struct variant_ops *const forms[] = {&fused_form_rows, &variant_stream_fp16};
static const struct choice_list list = {forms, sizeof forms / sizeof *forms, false, NULL};

static enum status prepare(struct variant_context *context, struct error *error)
{
    const enum status status = choice_prepare<list>(context, error);
    if (status == STATUS_OK)
        memcpy(context->note, ((const struct choice *)context->state)->context.note,
               sizeof context->note);
    return status;
}

const struct variant_ops variant_fused_fp16 = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = choice_supports<list>,
    .workspace = choice_workspace<list>,
    .prepare = prepare,
    .launch = choice_launch,
    .release = choice_release,
};
