/* A variant's life on the emulator (tests/emulator/device.hpp), from supports() to release(). */
#ifndef ASSAY_TESTS_EMULATOR_VARIANT_HPP
#define ASSAY_TESTS_EMULATOR_VARIANT_HPP

#include "gpu/cuda_check.h"
#include "gpu/hopper.cuh"
#include "gpu/variant.h"
#include "tests/emulator/emulate.h"

static enum status emulate(const struct variant_ops *ops, const struct problem *p,
                           const struct params *params, const float *x, float *y,
                           int multiprocessors, int offset, unsigned seed, struct error *error)
{
    enum status status = STATUS_OK;
    const struct cudaDeviceProp properties = {9, 0, multiprocessors, kSharedBytes};
    const size_t x_count = (size_t)problem_input_count(p),
                 y_count = (size_t)problem_output_count(p);
    const size_t w_count = (size_t)problem_weight_count(p), channels = (size_t)p->out_channels;
    struct variant_context context = {};
    float *d_x = NULL, *d_y = NULL, *d_weight = NULL, *d_conv_bias = NULL, *d_bias = NULL;
    char reason[256] = "";
    emulated_seed(seed);
    emulated_multiprocessors = multiprocessors;
    if (!ops->supports(p, &properties, reason, sizeof reason))
        return error_set(error, STATUS_UNSUPPORTED, "%s", reason);
    CHECK(cudaMalloc(&d_x, x_count * sizeof *d_x));
    CHECK(cudaMalloc(&d_y, (y_count + (size_t)offset) * sizeof *d_y));
    CHECK(cudaMalloc(&d_weight, w_count * sizeof *d_weight));
    CHECK(cudaMalloc(&d_conv_bias, channels * sizeof *d_conv_bias));
    CHECK(cudaMalloc(&d_bias, channels * sizeof *d_bias));
    memcpy(d_x, x, x_count * sizeof *d_x);
    memcpy(d_y + offset, y, y_count * sizeof *d_y);
    memcpy(d_weight, params->weight, w_count * sizeof *d_weight);
    for (size_t c = 0; c < channels; c++) {
        d_conv_bias[c] = params->conv_bias ? params->conv_bias[c] : 0.0f;
        d_bias[c] = params->bias[p->bias_count == 1 ? 0 : c];
    }
    context.problem = *p;
    context.h_params = {d_weight, d_conv_bias, d_bias};
    context.d_weight = d_weight;
    context.d_conv_bias = d_conv_bias;
    context.d_bias = d_bias;
    context.slice = p->batch;
    context.properties = &properties;
    context.multiprocessors = multiprocessors;
    if ((status = ops->prepare(&context, error)) == STATUS_OK)
        status = ops->launch(&context, d_x, d_y + offset, p->batch, NULL, error);
    memcpy(y, d_y + offset, y_count * sizeof *y);
    ops->release(&context);
out:
    cudaFree(d_x);
    cudaFree(d_y);
    cudaFree(d_weight);
    cudaFree(d_conv_bias);
    cudaFree(d_bias);
    return status;
}

#define EMULATED_VARIANT(name, ops)                                                                \
    enum status name(const struct problem *p, const struct params *params, const float *x,         \
                     float *y, int multiprocessors, int offset, unsigned seed,                     \
                     struct error *error)                                                          \
    {                                                                                              \
        return emulate(&ops, p, params, x, y, multiprocessors, offset, seed, error);               \
    }

#endif
