/* softmax over the channels, in place, in one coalesced pass over [images, Cout, Ho, Wo]; with
 * `finish`, the rest of the epilogue too (internal to gpu/). */
#ifndef ASSAY_GPU_SOFTMAX_PASS_H
#define ASSAY_GPU_SOFTMAX_PASS_H

#include "gpu/variant.h"

/* y = softmax(y), or, with finish, y = sigmoid(scale * (softmax(y) + bias)). With add_conv_bias,
 * conv_bias is added to y first. */
enum status softmax_pass_launch(const struct variant_context *context, float *d_y, int64_t images,
                                bool add_conv_bias, bool finish, cudaStream_t stream,
                                struct error *error);

#endif
