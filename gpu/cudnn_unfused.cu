/* The five original steps with cuDNN's convolution in the first place, in fp32 and in tf32:
 * PyTorch's eager mode without PyTorch. conv_bias is added as softmax reads. NCHW throughout.
 *
 * Home case: 1 write and 4 read-and-writes of 1.09 GB beside the convolution. */
#include <stdio.h>

#include "gpu/conv_tables.h"
#include "gpu/cudnn.h"
#include "gpu/elementwise.h"
#include "gpu/softmax_pass.h"

static bool supports(const struct problem *problem, const struct cudaDeviceProp *, char *reason,
                     size_t reason_size)
{
    return conv_tables_supports(problem, reason, reason_size) &&
           cudnn_conv_supports(problem, reason, reason_size);
}

static size_t workspace(const struct problem *, int64_t)
{
    return CUDNN_WORKSPACE;
}

template <bool TF32>
static enum status prepare(struct variant_context *context, struct error *error)
{
    struct cudnn_conv *conv = NULL;
    const enum status status = cudnn_conv_create(&conv, context, TF32, false, error);
    context->state = conv;
    if (conv) {
        context->varies = cudnn_conv_varies(conv);
        snprintf(context->note, sizeof context->note, "%s", cudnn_conv_note(conv));
    }
    return status;
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    struct cudnn_conv *conv = (struct cudnn_conv *)context->state;
    enum status status = cudnn_conv_launch(conv, d_x, d_y, images, stream, error);
    if (status == STATUS_OK)
        status = softmax_pass_launch(context, d_y, images, true, false, stream, error);
    if (status == STATUS_OK)
        status = add_bias_launch(context, d_y, images, stream, error);
    if (status == STATUS_OK)
        status = scale_launch(context, d_y, images, stream, error);
    if (status == STATUS_OK)
        status = sigmoid_launch(context, d_y, images, stream, error);
    return status;
}

static void release(struct variant_context *context)
{
    cudnn_conv_free((struct cudnn_conv *)context->state);
    context->state = NULL;
}

const struct variant_ops variant_cudnn_unfused = {
    .info = VARIANT_INFO(cudnn_unfused),
    .supports = supports,
    .workspace = workspace,
    .prepare = prepare<false>,
    .launch = launch,
    .release = release,
};

const struct variant_ops variant_cudnn_unfused_tf32 = {
    .info = VARIANT_INFO(cudnn_unfused_tf32),
    .supports = supports,
    .workspace = workspace,
    .prepare = prepare<true>,
    .launch = launch,
    .release = release,
};
