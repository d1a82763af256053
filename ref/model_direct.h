/* The definition of the model, in double precision, one image at a time: the oracle that every
 * other form is checked against. Written to be read, not to be fast. */
#ifndef ASSAY_REF_MODEL_DIRECT_H
#define ASSAY_REF_MODEL_DIRECT_H

#include "ref/problem.h"

/* One output pixel of the convolution, before conv_bias is added:
 *
 *     z[oc] = sum over ic of oc's group, kh, kw:  x[ic, ih, iw] * W[ic, oc, kh, kw]
 *
 * over the taps with oh + padding_h = ih * stride_h + kh * dilation_h, 0 <= ih < height, and the
 * same for the width. Taps that fall outside the input are not multiplied, so an infinite weight
 * never meets a padding zero. x [Cin, H, W] is one image, weight [Cin, Cout/groups, kH, kW]. */
double conv_transpose_pixel(const struct problem *problem, const float *x, const float *weight,
                            int64_t oc, int64_t oh, int64_t ow);

/* y [Cout, Ho, Wo] of one image:
 *
 *     z = conv + conv_bias;  p = exp(z - max z) / sum exp(z - max z)  over the channels of a pixel
 *     y = 1 / (1 + exp(-scaling_factor * (p + bias)))
 *
 * NaN and infinities go through as IEEE arithmetic has them. Uses the caller's OpenMP threads;
 * STATUS_ENVIRONMENT when memory for one pixel's channels per thread is lacking. */
enum status model_direct_image(const struct problem *problem, const struct params *params,
                               const float *x, double *y, struct error *error);

#endif
