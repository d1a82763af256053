/* Powers of two that bring W and x into fp16's range, and the images for which products of such
 * operands keep their class's bound (internal to gpu/; host side). */
#ifndef ASSAY_GPU_FP16_RANGE_H
#define ASSAY_GPU_FP16_RANGE_H

#include <math.h>
#include <stdint.h>

#include "ref/problem.h"

struct fp16_range {
    float x_scale;      /* what x is multiplied by */
    float weight_scale; /* brings the largest weight into [2^14, 2^15), with room for rounding; 0
                           where a weight is not finite */
    /* An image's largest |x| must lie within these, or all of x be zero. */
    float smallest, largest; /* 0: however small; largest -1: no image may */
};

static inline float fp16_weight_scale(const float *weight, int64_t count)
{
    float largest = 0.0f;
    int exponent = 0;
    for (int64_t i = 0; i < count; i++) {
        const float w = fabsf(weight[i]);
        if (!isfinite(w))
            return 0.0f;
        largest = w > largest ? w : largest;
    }
    if (largest > 0.0f)
        frexpf(largest, &exponent);
    exponent = exponent < -80 ? -80 : exponent; /* or its product with x_scale may overflow */
    return ldexpf(1.0f, 15 - exponent);
}

/* Of the weights that meet in one output, the most over all outputs. */
struct fp16_met {
    double sum;    /* of magnitudes */
    int64_t small; /* how many are not zero and, scaled, under 2^-1 */
};

static inline struct fp16_met fp16_weights_met(const struct problem *p, const float *weight,
                                               float weight_scale)
{
    const int64_t period_h = problem_tap_period(p->stride_h, p->dilation_h);
    const int64_t period_w = problem_tap_period(p->stride_w, p->dilation_w);
    const int64_t group_in = p->in_channels / p->groups, group_out = p->out_channels / p->groups;
    struct fp16_met most = {0.0, 0};
    for (int64_t out = 0; out < p->out_channels; out++)
        for (int64_t first_h = 0; first_h < period_h && first_h < p->kernel_h; first_h++)
            for (int64_t first_w = 0; first_w < period_w && first_w < p->kernel_w; first_w++) {
                struct fp16_met met = {0.0, 0};
                for (int64_t in = 0; in < group_in; in++) {
                    const float *w =
                        weight + ((out / group_out * group_in + in) * group_out + out % group_out) *
                                     p->kernel_h * p->kernel_w;
                    for (int64_t kh = first_h; kh < p->kernel_h; kh += period_h)
                        for (int64_t kw = first_w; kw < p->kernel_w; kw += period_w) {
                            const float magnitude = fabsf(w[kh * p->kernel_w + kw]);
                            met.sum += magnitude;
                            met.small += magnitude > 0.0f && magnitude * weight_scale < 0.5f;
                        }
                }
                most.sum = met.sum > most.sum ? met.sum : most.sum;
                most.small = met.small > most.small ? met.small : most.small;
            }
    return most;
}

/* W as [Cin, Cout / groups, kH, kW] at `weight`; operands of `parts` fp16 numbers: 1, of tf32's
 * accuracy, or 2, of fp32 grade.
 *
 * x times x_scale must stay in fp16's range. What is under fp16's smallest step is lost, at most
 * 2^-25 of the scale's unit, which shifts a logit by at most 2^-25 / x_scale times the sum of |w|
 * that it meets. Where that is at most 2^-26, a quarter of what the exponentials err by, x may be
 * as small as it likes. Where it is more, an image's largest has to be so large that what is lost
 * is at most 2^-24 of it, which tf32's bound allows.
 *
 * For fp32 grade that is not enough, for an output's bound knows only the products that it sums:
 * x_scale is raised until the shift is 2^-26. The same holds of W: an operand that is under 2^-1
 * when scaled may err by more than 2^-24 of itself, by 2^-25 of the scale's unit; n of them shift
 * a logit by n max|x| 2^-25 / weight_scale, and an image where that exceeds 2^-26 is refused. */
static inline struct fp16_range fp16_range_of(const struct problem *p, const float *weight,
                                              int parts)
{
    struct fp16_range range = {16.0f, fp16_weight_scale(weight, problem_weight_count(p)), 0.0f,
                               -1.0f};
    struct fp16_met met = {0.0, 0};
    if (range.weight_scale > 0.0f)
        met = fp16_weights_met(p, weight, range.weight_scale);
    if (parts == 2) {
        range.x_scale = 128.0f;
        while (range.x_scale < 2.0 * met.sum && range.x_scale < 0x1p125f) /* 1 / it is normal */
            range.x_scale *= 2.0f;
    }
    const bool quiet = 2.0 * met.sum <= range.x_scale; /* the shift is at most 2^-26 */
    if (!quiet)
        range.smallest = 0.5f / range.x_scale;
    if (range.weight_scale > 0.0f && (quiet || parts == 1)) {
        range.largest = 65504.0f / range.x_scale;
        if (parts == 2 && met.small > 0)
            range.largest = fminf(range.largest, range.weight_scale / (2.0f * (float)met.small));
    }
    return range;
}

#endif
