/* The whole model on Hopper's tensor cores at tf32's accuracy; the logits never leave the chip.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Three forms, the first that supports the problem and pays there:
 *
 *     gpu/fused_small.cu     stride 2, kernels of up to 4 x 4, up to 64 input and 128 output
 *                            channels: weights stay on chip; one launch, for batches of few tiles
 *     gpu/fused_rows.cu      the same with padding of up to 1 and rows of 96 to 129 outputs: every
 *                            sector of y is written once and whole
 *     gpu/stream_fp16.cu     any other shape; gpu-stream-fp16 is this one alone
 *
 * Class tf32: fp16 keeps tf32's 10 bits. What it lacks is range, which powers of two give back: W
 * is scaled by its largest magnitude at prepare, x by 16, so that images whose largest |x| is at
 * most 4094, and at least 0.03125 where weights are large, keep the class's bound
 * (gpu/fp16_range.h). The kernel notes the largest |x| of every image, and gpu/fused_repair.cuh,
 * which follows in the stream, computes the others again in IEEE fp32: images out of range, with
 * NaN or infinities, those whose softmax would need a maximum subtracted (gpu/fused_rows.cuh), or
 * all of them where a weight is not finite. A pass over x beforehand would cost 31 us. (The form of
 * small batches does so for each patch, by itself.) The choice is an image's own and that of the
 * form the whole batch's, so bits don't depend on slicing; those of an image may differ between a
 * plan of few images and one of many.
 *
 * What the forms measure and what was tried: gpu/fused_small.cu, gpu/fused_rows.cu,
 * gpu/stream_fp16.cu. */
#include <string.h>

#include "gpu/choice.cuh"
#include "gpu/fused_forms.h"

static const struct variant_ops *const forms[] = {&fused_form_small, &fused_form_rows,
                                                  &variant_stream_fp16};

/* 64x64 -> 128x128, us a launch in a graph of twenty, H200, 2026-11-23; rounds in brackets:
 *
 *     channels, images    8, 8    16, 8   32, 8   64, 8   128, 1   128, 4   128, 8   8, 128  32,
 * 128 rounds               4       4       4       4       1        4        8        63      63
 *     small                19.5    20.8    23.0    26.0     8.5     25.9     48.4     277     333
 *     rows                 26.8    27.2    28.2    27.0    18.2     27.2     38.3     230     233
 *     stream               14.9    17.5    25.1    38.8    15.0     35.1     66.9     168     292
 *
 * In one round small takes about half of what stream does whatever the channels; rows of other
 * widths, 128 channels in 70 rounds (32x32, 128 images): small 177, stream 245. */
static bool pays(const struct variant_ops *ops, const struct problem *p,
                 const struct cudaDeviceProp *device)
{
    const double rounds = fused_rounds(p, device);
    if (ops == &fused_form_small)
        return rounds <= 1 || (p->out_channels > 16 && rounds <= 4) ||
               (p->out_channels > 32 && !fused_form_rows.supports(p, device, NULL, 0));
    if (ops == &fused_form_rows)
        return p->out_channels > 20;
    return true;
}

static const struct choice_list list = {forms, sizeof forms / sizeof *forms, false, pays};

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
