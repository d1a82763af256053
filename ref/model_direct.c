#include "ref/model_direct.h"

#include <math.h>
#include <stdlib.h>

double conv_transpose_pixel(const struct problem *p, const float *x, const float *weight,
                            int64_t oc, int64_t oh, int64_t ow)
{
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    const int64_t first_ic = oc / out_per_group * in_per_group;
    double sum = 0.0;
    for (int64_t ic = first_ic; ic < first_ic + in_per_group; ic++) {
        const float *plane = x + ic * p->height * p->width;
        const float *taps =
            weight + (ic * out_per_group + oc % out_per_group) * p->kernel_h * p->kernel_w;
        for (int64_t kh = 0; kh < p->kernel_h; kh++) {
            const int64_t row = oh + p->padding_h - kh * p->dilation_h;
            if (row < 0 || row % p->stride_h != 0 || row / p->stride_h >= p->height)
                continue;
            for (int64_t kw = 0; kw < p->kernel_w; kw++) {
                const int64_t column = ow + p->padding_w - kw * p->dilation_w;
                if (column < 0 || column % p->stride_w != 0 || column / p->stride_w >= p->width)
                    continue;
                sum += (double)plane[row / p->stride_h * p->width + column / p->stride_w] *
                       (double)taps[kh * p->kernel_w + kw];
            }
        }
    }
    return sum;
}

/* z [channels] -> y [channels], `step` elements apart in y. */
static void epilogue_pixel(const struct problem *p, const struct params *params, double *z,
                           double *y, int64_t step)
{
    double maximum = -INFINITY;
    for (int64_t c = 0; c < p->out_channels; c++) {
        if (p->has_conv_bias)
            z[c] += (double)params->conv_bias[c];
        if (z[c] > maximum)
            maximum = z[c];
    }
    double sum = 0.0;
    for (int64_t c = 0; c < p->out_channels; c++) {
        z[c] = exp(z[c] - maximum);
        sum += z[c];
    }
    for (int64_t c = 0; c < p->out_channels; c++) {
        const double probability = z[c] / sum;
        const double bias = (double)params->bias[p->bias_count == 1 ? 0 : c];
        const double t = (double)p->scaling_factor * (probability + bias);
        y[c * step] = 1.0 / (1.0 + exp(-t));
    }
}

enum status model_direct_image(const struct problem *p, const struct params *params, const float *x,
                               double *y, struct error *error)
{
    const int64_t rows = problem_output_h(p), columns = problem_output_w(p);
    bool out_of_memory = false;
#pragma omp parallel
    {
        double *z = malloc((size_t)p->out_channels * sizeof *z);
        if (!z) {
#pragma omp atomic write
            out_of_memory = true;
        }
#pragma omp for collapse(2) schedule(dynamic, 16)
        for (int64_t oh = 0; oh < rows; oh++)
            for (int64_t ow = 0; ow < columns; ow++) {
                if (!z)
                    continue;
                for (int64_t oc = 0; oc < p->out_channels; oc++)
                    z[oc] = conv_transpose_pixel(p, x, params->weight, oc, oh, ow);
                epilogue_pixel(p, params, z, y + oh * columns + ow, rows * columns);
            }
        free(z);
    }
    if (out_of_memory)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for %lld channels",
                         (long long)p->out_channels);
    return STATUS_OK;
}
