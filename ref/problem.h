/* The problem: shapes and attributes of one operator chain
 *
 *     y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim = 1) + bias))
 *
 *     x          float32 [batch, in_channels, height, width]                  NCHW, contiguous
 *     W          float32 [in_channels, out_channels / groups, kernel_h, kernel_w]
 *     conv_bias  float32 [out_channels], or absent
 *     bias       float32 [out_channels] or [1] (broadcast)
 *     y          float32 [batch, out_channels, output_h, output_w]
 *
 * The meaning of every attribute is that of torch.nn.ConvTranspose2d:
 *
 *     output_h = (height - 1) * stride_h - 2 * padding_h
 *                + dilation_h * (kernel_h - 1) + output_padding_h + 1
 *
 * All sizes are 64-bit; tensors of more than 2^31 elements are ordinary. */
#ifndef ASSAY_REF_PROBLEM_H
#define ASSAY_REF_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct problem {
    int64_t batch;        /* N >= 0 */
    int64_t in_channels;  /* > 0, divisible by groups */
    int64_t out_channels; /* > 0, divisible by groups */
    int64_t height, width;
    int64_t kernel_h, kernel_w;
    int64_t stride_h, stride_w;
    int64_t padding_h, padding_w;
    int64_t output_padding_h, output_padding_w;
    int64_t dilation_h, dilation_w;
    int64_t groups;
    int64_t bias_count; /* elements of `bias`: out_channels, or 1 */
    bool has_conv_bias;
    float scaling_factor;
};

/* The tensors of one case, in host memory, laid out as above. conv_bias is NULL when the problem
 * has none. A struct of borrowed pointers: whoever fills it owns them. */
struct params {
    const float *weight;
    const float *conv_bias;
    const float *bias;
};

/* N 128, 64 -> 128 channels, 64 x 64, kernel 4, stride 2, padding 1, output_padding 1, scale 2. */
struct problem problem_home(void);

/* Accepts exactly what torch.nn.ConvTranspose2d accepts, with PyTorch's reasons for a refusal, but
 * no size or argument above 2^31 - 1 and no tensor of more than 2^60 elements. STATUS_OK or
 * STATUS_BAD_INPUT. Every other function here takes a validated problem. */
enum status problem_validate(const struct problem *problem, struct error *error);

bool problem_equal(const struct problem *a, const struct problem *b);

int64_t problem_output_h(const struct problem *problem);
int64_t problem_output_w(const struct problem *problem);

/* Element counts. */
int64_t problem_input_image(const struct problem *problem); /* in_channels * height * width */
int64_t
problem_output_image(const struct problem *problem); /* out_channels * output_h * output_w */
int64_t problem_input_count(const struct problem *problem);
int64_t problem_output_count(const struct problem *problem);
int64_t problem_weight_count(const struct problem *problem);

/* Products that enter one logit at most: in_channels / groups times the largest number of kernel
 * taps that one output pixel receives, ceil(kernel / stride') each way, where taps meet at the
 * stride over gcd(stride, dilation). The K of the error bound. */
int64_t problem_reduction_length(const struct problem *problem);

/* Along an axis, how far apart the kernel's taps lie that meet in one output:
 * stride / gcd(stride, dilation). */
int64_t problem_tap_period(int64_t stride, int64_t dilation);

/* Floating-point operations of the convolution: 2 for every (input pixel, kernel tap) pair whose
 * output pixel exists, times channels; exactly what the definition multiplies and adds. The
 * epilogue is not counted. */
double problem_flops(const struct problem *problem);

/* The fewest bytes that device memory must move: what any output depends on of x and W, and both
 * biases, read once, y written once. */
double problem_bytes(const struct problem *problem);

#ifdef __cplusplus
}
#endif
#endif
