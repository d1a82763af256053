/* conv_transpose2d + conv_bias alone, in IEEE fp32, as a kernel of its own (internal to gpu/): the
 * first step of the unfused variants.
 *
 *     logits [images, Cout, Ho, Wo] = conv_transpose2d(x, W) + conv_bias */
#ifndef ASSAY_GPU_CONV_TRANSPOSE_FP32_H
#define ASSAY_GPU_CONV_TRANSPOSE_FP32_H

#include "gpu/conv_tables.h"

struct conv_transpose {
    struct conv_tables tables;
    int tile; /* row of the table of tiles, or -1: direct */
};

enum status conv_transpose_init(struct conv_transpose *conv, const struct variant_context *context,
                                struct error *error);
void conv_transpose_release(struct conv_transpose *conv);

/* Enqueues the kernel; d_logits may not overlap d_x. */
enum status conv_transpose_launch(const struct conv_transpose *conv, const float *d_x,
                                  float *d_logits, int64_t images, cudaStream_t stream,
                                  struct error *error);

/* prepare, release and supports of the variants whose whole state is a struct conv_transpose. */
enum status conv_transpose_variant_prepare(struct variant_context *context, struct error *error);
void conv_transpose_variant_release(struct variant_context *context);
bool conv_transpose_variant_supports(const struct problem *problem,
                                     const struct cudaDeviceProp *device, char *reason,
                                     size_t reason_size);

#endif
