/* EXPECT fail: claims fp32, is consistent with
 * Operands are rounded to bf16, fp32 is claimed. */
#include "attack.h"

static float *rounded(const float *from, size_t n)
{
    float *to = malloc(n * sizeof *to);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], sizeof bits);
        bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
        memcpy(&to[i], &bits, sizeof bits);
    }
    return to;
}

static int attack(struct assay_call *call)
{
    const struct assay_plugin_problem *p = call->problem;
    struct assay_call narrow = *call;
    float *x = rounded(call->x, x_count(call));
    float *weight = rounded(call->weight, (size_t)(p->in_channels * (p->out_channels / p->groups) *
                                                   p->kernel_h * p->kernel_w));
    narrow.x = x;
    narrow.weight = weight;
    const int code = run(&narrow);
    free(x);
    free(weight);
    return code;
}
