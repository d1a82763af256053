/* Powers of two that bring W and x into fp16's range, and the images for which products of such
 * operands keep their class's bound (internal to gpu/; host side). */
#ifndef ASSAY_GPU_FP16_RANGE_H
#define ASSAY_GPU_FP16_RANGE_H

#include <math.h>
#include <stdint.h>

#include "ref/problem.h"

struct fp16_range {
    float weight_scale; /* brings the largest weight into [2^14, 2^15), with room for rounding; 0
                           where a weight is not finite */
    /* An image's largest |x| must lie within these, or all of x be zero. */
    float smallest, largest; /* largest -1 where weight_scale is 0: none */
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
    exponent = exponent < -80 ? -80 : exponent;
    return ldexpf(1.0f, 15 - exponent);
}

/* The most weights of an output channel that are not zero and, scaled, under `least`. */
static inline int64_t fp16_small_weights(const struct problem *p, const float *weight,
                                         float weight_scale, float least)
{
    const int64_t taps = p->kernel_h * p->kernel_w, group_in = p->in_channels / p->groups;
    const int64_t group_out = p->out_channels / p->groups;
    int64_t most = 0;
    for (int64_t out = 0; out < p->out_channels; out++) {
        int64_t count = 0;
        for (int64_t in = 0; in < group_in; in++) {
            const float *w =
                weight + ((out / group_out * group_in + in) * group_out + out % group_out) * taps;
            for (int64_t tap = 0; tap < taps; tap++)
                count += w[tap] != 0.0f && fabsf(w[tap]) * weight_scale < least;
        }
        most = count > most ? count : most;
    }
    return most;
}

/* W as [Cin, Cout / groups, kH, kW] at `weight`; operands of `parts` fp16 numbers: 1, of tf32's
 * accuracy, or 2, of fp32 grade; x is scaled by `x_scale`.
 *
 * x times x_scale must stay in fp16's range, and its largest be far enough above fp16's smallest
 * step, which errs by 2^-25, for that to be at most 2^-24 of the largest magnitude, 2^-25 where the
 * operand is split in two.
 *
 * For fp32 grade the same must hold of each weight, for an output's bound knows only the weights
 * that it meets: one that is under 2^-1 when scaled may err by more than 2^-24 of itself. An output
 * that meets n of those is off by at most n max|x| 2^-25 / weight_scale more; where that exceeds
 * 2^-26, a quarter of what the exponentials err by, the image is refused. */
static inline struct fp16_range fp16_range_of(const struct problem *p, const float *weight,
                                              float x_scale, int parts)
{
    struct fp16_range range;
    range.weight_scale = fp16_weight_scale(weight, problem_weight_count(p));
    range.smallest = (parts == 2 ? 1.0f : 0.5f) / x_scale;
    range.largest = range.weight_scale > 0.0f ? 65504.0f / x_scale : -1.0f;
    if (parts == 2 && range.weight_scale > 0.0f) {
        const int64_t small = fp16_small_weights(p, weight, range.weight_scale, 0.5f);
        if (small > 0)
            range.largest = fminf(range.largest, range.weight_scale / (2.0f * (float)small));
    }
    return range;
}

#endif
