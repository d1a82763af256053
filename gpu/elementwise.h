/* The unfused steps after softmax, each a kernel of its own, in place on [images, Cout, Ho, Wo]
 * (internal to gpu/). Each reads and writes y once. */
#ifndef ASSAY_GPU_ELEMENTWISE_H
#define ASSAY_GPU_ELEMENTWISE_H

#include "gpu/variant.h"

enum status add_bias_launch(const struct variant_context *context, float *d_y, int64_t images,
                            cudaStream_t stream, struct error *error); /* y += bias[c] */
enum status scale_launch(const struct variant_context *context, float *d_y, int64_t images,
                         cudaStream_t stream, struct error *error); /* y *= scale */
enum status sigmoid_launch(const struct variant_context *context, float *d_y, int64_t images,
                           cudaStream_t stream, struct error *error); /* y = sigmoid(y) */

/* y = sigmoid(scale * (y + bias[c])) */
enum status add_scale_sigmoid_launch(const struct variant_context *context, float *d_y,
                                     int64_t images, cudaStream_t stream, struct error *error);

#endif
