/* Convolution apart; softmax .. sigmoid in one coalesced pass (gpu/softmax_pass.cu).
 *
 * Home case: 1 write and 1 read-and-write of 1.09 GB, 0.25 + 0.51 ms, beside the convolution.
 * Measured on an H200: 3.87 ms. */
#include "gpu/conv_transpose_fp32.h"
#include "gpu/softmax_pass.h"

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    const struct conv_transpose *conv = (const struct conv_transpose *)context->state;
    enum status status = conv_transpose_launch(conv, d_x, d_y, images, stream, error);
    if (status == STATUS_OK)
        status = softmax_pass_launch(context, d_y, images, false, true, stream, error);
    return status;
}

const struct variant_ops variant_post_conv = {
    .info = VARIANT_INFO(post_conv),
    .supports = conv_transpose_variant_supports,
    .workspace = NULL,
    .prepare = conv_transpose_variant_prepare,
    .launch = launch,
    .release = conv_transpose_variant_release,
};
