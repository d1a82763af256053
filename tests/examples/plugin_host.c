/* A kernel of one's own in C, for harness/plugin.h: the definition, one output pixel after the
 * other, in fp32.
 *
 *     cc -O2 -shared -fPIC -Iharness -o plugin_host.so tests/examples/plugin_host.c -lm
 *     assay verify --impl plugin:./plugin_host.so mb2ic8ih9oc16kh4sh2ph1oph1 */
#include <math.h>

#include "plugin.h"

/* One logit, without conv_bias. */
static float convolve(const struct assay_call *call, int64_t n, int64_t oc, int64_t oh, int64_t ow)
{
    const struct assay_plugin_problem *p = call->problem;
    const int64_t in_per_group = p->in_channels / p->groups;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t first = oc / out_per_group * in_per_group;
    float sum = 0.0f;
    for (int64_t ic = first; ic < first + in_per_group; ic++)
        for (int64_t kh = 0; kh < p->kernel_h; kh++)
            for (int64_t kw = 0; kw < p->kernel_w; kw++) {
                const int64_t h = oh + p->padding_h - kh * p->dilation_h;
                const int64_t w = ow + p->padding_w - kw * p->dilation_w;
                if (h < 0 || w < 0 || h % p->stride_h || w % p->stride_w)
                    continue;
                const int64_t ih = h / p->stride_h, iw = w / p->stride_w;
                if (ih >= p->height || iw >= p->width)
                    continue;
                sum += call->x[((n * p->in_channels + ic) * p->height + ih) * p->width + iw] *
                       call->weight[((ic * out_per_group + oc % out_per_group) * p->kernel_h + kh) *
                                        p->kernel_w +
                                    kw];
            }
    return sum;
}

/* The logits of one pixel, [out_channels], are the workspace. */
static size_t workspace(const struct assay_plugin_problem *p)
{
    return (size_t)p->out_channels * sizeof(float);
}

static int run(struct assay_call *call)
{
    const struct assay_plugin_problem *p = call->problem;
    const int64_t pixels = p->output_h * p->output_w;
    float *z = call->workspace;
    for (int64_t n = 0; n < p->batch; n++)
        for (int64_t i = 0; i < pixels; i++) {
            float maximum = -INFINITY, sum = 0.0f;
            for (int64_t c = 0; c < p->out_channels; c++) {
                z[c] = convolve(call, n, c, i / p->output_w, i % p->output_w) +
                       (call->conv_bias ? call->conv_bias[c] : 0.0f);
                maximum = fmaxf(maximum, z[c]);
            }
            for (int64_t c = 0; c < p->out_channels; c++)
                sum += z[c] = expf(z[c] - maximum);
            for (int64_t c = 0; c < p->out_channels; c++) {
                const float t = z[c] / sum + call->bias[p->bias_count == 1 ? 0 : c];
                call->y[(n * p->out_channels + c) * pixels + i] =
                    1.0f / (1.0f + expf(-p->scaling_factor * t));
            }
        }
    return 0;
}

const struct assay_plugin *assay_plugin(void)
{
    static const struct assay_plugin plugin = {.abi = ASSAY_PLUGIN_ABI,
                                               .memory = ASSAY_MEMORY_HOST,
                                               .name = "the definition in C",
                                               .arithmetic_class = "fp32",
                                               .workspace = workspace,
                                               .run = run};
    return &plugin;
}
