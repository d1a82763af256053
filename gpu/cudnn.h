/* cuDNN's convolution, backward with respect to its data, which is conv_transpose2d without its
 * bias; the library is loaded at run time (internal to gpu/).
 *
 *     logits [images, Cout, Ho, Wo] = conv_transpose2d(x, W)
 *
 * Through cuDNN's graph interface: its heuristics propose engines, those that would break the
 * promised class are left out (tensor cores for fp32; Winograd, FFT and down-converting ones for
 * both), the rest are timed when the plan is made, and the fastest is kept. */
#ifndef ASSAY_GPU_CUDNN_H
#define ASSAY_GPU_CUDNN_H

#include "gpu/variant.h"

/* "9.19.0", or why cuDNN cannot be used. True where it can. */
bool cudnn_version(char *text, size_t size);

/* False and a reason where cuDNN is absent or its convolution is not the problem's. */
bool cudnn_conv_supports(const struct problem *problem, char *reason, size_t reason_size);

/* The most workspace that cuDNN is given. */
#define CUDNN_WORKSPACE ((size_t)256 << 20)

struct cudnn_conv;

/* An engine for up to context->slice images, in NCHW or in channels-last layout (x, W and logits
 * all three: N H W C, weights Cin kH kW Cout/groups). STATUS_UNSUPPORTED where cuDNN has none, or
 * where weights are not finite: its engines multiply padding zeros by them. */
enum status cudnn_conv_create(struct cudnn_conv **conv, const struct variant_context *context,
                              bool tf32, bool channels_last, struct error *error);
void cudnn_conv_free(struct cudnn_conv *conv);

/* Images that one launch takes: the slice, or fewer, so that no tensor has 2^31 elements. */
int64_t cudnn_conv_images(const struct cudnn_conv *conv);

/* Seconds of one launch, as timed when the engine was chosen; and its name for the plan's note. */
double cudnn_conv_seconds(const struct cudnn_conv *conv);
const char *cudnn_conv_note(const struct cudnn_conv *conv);

/* The engine adds in no fixed order (as PyTorch allows by default). */
bool cudnn_conv_varies(const struct cudnn_conv *conv);

enum status cudnn_conv_launch(struct cudnn_conv *conv, const float *d_x, float *d_logits,
                              int64_t images, cudaStream_t stream, struct error *error);

#endif
