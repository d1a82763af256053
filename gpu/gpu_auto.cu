/* gpu-auto: the fastest variant that supports the problem at the asked arithmetic class.
 *
 * The order is fixed and written down here, fastest first as measured on an H200 over the network
 * suite; the first that keeps within the class, supports the problem and can be prepared is taken,
 * and the plan's note names it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/variant.h"

static const struct variant_ops *const preference[] = {
    &variant_cudnn_post_conv_tf32,
    &variant_fused_fp32,
    &variant_post_conv,
};
#define PREFERENCE_COUNT (sizeof preference / sizeof *preference)

struct choice {
    const struct variant_ops *ops;
    struct variant_context context;
};

static bool supports(const struct problem *problem, const struct cudaDeviceProp *device,
                     char *reason, size_t reason_size)
{
    for (size_t i = 0; i < PREFERENCE_COUNT; i++)
        if (preference[i]->supports(problem, device, reason, reason_size))
            return true;
    return false;
}

/* The most that any choice needs: the slice is settled before the choice is. */
static size_t workspace(const struct problem *problem, int64_t images)
{
    size_t most = 0;
    for (size_t i = 0; i < PREFERENCE_COUNT; i++) {
        const size_t bytes =
            preference[i]->workspace ? preference[i]->workspace(problem, images) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    struct cudaDeviceProp device;
    char reason[256] = "";
    struct choice *choice = (struct choice *)calloc(1, sizeof *choice);
    if (!choice)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    context->state = choice;
    if (cudaGetDeviceProperties(&device, context->device) != cudaSuccess)
        return error_set(error, STATUS_ENVIRONMENT, "no properties of device %d", context->device);
    error_set(error, STATUS_UNSUPPORTED, "no variant keeps within the class");
    enum status status = STATUS_UNSUPPORTED;
    for (size_t i = 0; i < PREFERENCE_COUNT && status == STATUS_UNSUPPORTED; i++) {
        const struct variant_ops *ops = preference[i];
        if (ops->info.cls > context->cls ||
            !ops->supports(&context->problem, &device, reason, sizeof reason))
            continue;
        choice->ops = ops;
        choice->context = *context;
        choice->context.state = NULL;
        choice->context.note[0] = 0;
        choice->context.varies = false;
        status = ops->prepare ? ops->prepare(&choice->context, error) : STATUS_OK;
        if (status != STATUS_OK && ops->release)
            ops->release(&choice->context);
        context->varies = choice->context.varies;
        if (status == STATUS_OK)
            snprintf(context->note, sizeof context->note, "%s%s%.150s", ops->info.name,
                     choice->context.note[0] ? ": " : "", choice->context.note);
    }
    if (status != STATUS_OK)
        choice->ops = NULL;
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    struct choice *choice = (struct choice *)context->state;
    return choice->ops->launch(&choice->context, d_x, d_y, images, stream, error);
}

static void release(struct variant_context *context)
{
    struct choice *choice = (struct choice *)context->state;
    if (choice && choice->ops && choice->ops->release)
        choice->ops->release(&choice->context);
    free(choice);
    context->state = NULL;
}

const struct variant_ops *variant_resolve(const struct variant_ops *ops,
                                          const struct variant_context *context)
{
    const struct choice *choice = (const struct choice *)context->state;
    return ops == &variant_auto && choice && choice->ops ? choice->ops : ops;
}

const struct variant_ops variant_auto = {
    .info = VARIANT_INFO(auto),
    .supports = supports,
    .workspace = workspace,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
