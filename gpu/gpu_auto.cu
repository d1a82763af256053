/* gpu-auto: the fastest variant that supports the problem at the asked arithmetic class.
 *
 * The order is fixed and written down here, fastest first on an H200: on the home case all were
 * measured, on the network suite the tensor-core kernels and cuDNN; between the others it is
 * assumed to be the same there. The first that keeps within the class, supports the problem and can
 * be prepared is taken, and the plan's note names it. The first of each class choose between
 * several kernels themselves. */
#include <stdio.h>

#include "gpu/choice.cuh"

static const struct variant_ops *const preference[] = {
    &variant_fused_fp16, &variant_cudnn_post_conv_tf32, &variant_fused_fp16x3, &variant_fused_fp32,
    &variant_post_conv,
};
static const struct choice_list list = {preference, sizeof preference / sizeof *preference, true,
                                        NULL};

static enum status prepare(struct variant_context *context, struct error *error)
{
    const enum status status = choice_prepare<list>(context, error);
    if (status == STATUS_OK) {
        const struct choice *choice = (const struct choice *)context->state;
        snprintf(context->note, sizeof context->note, "%s%s%.150s", choice->ops->info.name,
                 choice->context.note[0] ? ": " : "", choice->context.note);
    }
    return status;
}

const struct variant_ops *variant_resolve(const struct variant_ops *ops,
                                          const struct variant_context *context)
{
    const struct choice *choice = (const struct choice *)context->state;
    return ops == &variant_auto && choice && choice->ops ? choice->ops : ops;
}

const struct variant_ops variant_auto = {
    .info = VARIANT_INFO(auto),
    .supports = choice_supports<list>,
    .workspace = choice_workspace<list>,
    .prepare = prepare,
    .launch = choice_launch,
    .release = choice_release,
};
