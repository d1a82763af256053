#include "harness/assay.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/gpu.h"
#include "ref/model_gemm.h"

#ifndef ASSAY_BUILD_COMMIT
#define ASSAY_BUILD_COMMIT "unknown"
#endif

_Static_assert(sizeof(struct assay_problem) == 20 * sizeof(int64_t), "part of the ABI");

struct assay_plan {
    struct problem problem;
    struct params params; /* in `storage`: weight, conv_bias, bias */
    float *storage;
    struct model_gemm *cpu; /* one of the two */
    struct gpu_plan *gpu;
};

static _Thread_local struct error last_error;

/* Whether the library holds the GPU path at all. */
static bool built_with_cuda(void)
{
    struct error error;
    return gpu_status(&error) == STATUS_OK || strcmp(error.message, "built without CUDA") != 0;
}

static int give(enum status status)
{
    return status == STATUS_FAILED ? ASSAY_ENVIRONMENT : (int)status;
}

int assay_abi_version(void)
{
    return ASSAY_ABI_VERSION;
}

const char *assay_build(void)
{
    static _Thread_local char line[160];
    snprintf(line, sizeof line, "libassay %d, commit %s, %s CUDA", ASSAY_ABI_VERSION,
             ASSAY_BUILD_COMMIT, built_with_cuda() ? "with" : "without");
    return line;
}

const char *assay_last_error(void)
{
    return last_error.message;
}

int assay_device_count(void)
{
    return gpu_status(&last_error) == STATUS_OK ? gpu_device_count() : 0;
}

void assay_set_threads(int threads)
{
    omp_set_num_threads(threads > 0 ? threads : 1);
}

static enum status problem_of(const struct assay_problem *from, struct problem *p)
{
    *p = (struct problem){.batch = from->batch,
                          .in_channels = from->in_channels,
                          .out_channels = from->out_channels,
                          .height = from->height,
                          .width = from->width,
                          .kernel_h = from->kernel[0],
                          .kernel_w = from->kernel[1],
                          .stride_h = from->stride[0],
                          .stride_w = from->stride[1],
                          .padding_h = from->padding[0],
                          .padding_w = from->padding[1],
                          .output_padding_h = from->output_padding[0],
                          .output_padding_w = from->output_padding[1],
                          .dilation_h = from->dilation[0],
                          .dilation_w = from->dilation[1],
                          .groups = from->groups,
                          .bias_count = from->bias_count,
                          .has_conv_bias = from->has_conv_bias != 0,
                          .scaling_factor = (float)from->scaling_factor};
    return problem_validate(p, &last_error);
}

int assay_output_size(const struct assay_problem *problem, int64_t *output_h, int64_t *output_w)
{
    struct problem p;
    const enum status status = problem_of(problem, &p);
    if (status != STATUS_OK)
        return give(status);
    if (output_h)
        *output_h = problem_output_h(&p);
    if (output_w)
        *output_w = problem_output_w(&p);
    return ASSAY_OK;
}

/* The plan's own copy: the CPU's model borrows its parameters. */
static enum status copy_params(struct assay_plan *plan, const struct params *from)
{
    const struct problem *p = &plan->problem;
    const size_t weights = (size_t)problem_weight_count(p);
    const size_t channels = p->has_conv_bias ? (size_t)p->out_channels : 0;
    const size_t biases = (size_t)p->bias_count;
    float *storage = malloc((weights + channels + biases) * sizeof *storage);
    if (!storage)
        return error_set(&last_error, STATUS_ENVIRONMENT, "out of memory for %zu parameters",
                         weights + channels + biases);
    plan->storage = storage;
    memcpy(storage, from->weight, weights * sizeof *storage);
    if (channels)
        memcpy(storage + weights, from->conv_bias, channels * sizeof *storage);
    memcpy(storage + weights + channels, from->bias, biases * sizeof *storage);
    plan->params = (struct params){.weight = storage,
                                   .conv_bias = channels ? storage + weights : NULL,
                                   .bias = storage + weights + channels};
    return STATUS_OK;
}

static enum status cpu_create(struct assay_plan *plan, const char *variant)
{
    if (variant && strcmp(variant, "cpu-gemm") != 0)
        return error_set(&last_error, STATUS_UNSUPPORTED,
                         "no variant '%.100s' on the CPU: there is cpu-gemm", variant);
    return model_gemm_create(&plan->cpu, &plan->problem, &plan->params, &last_error);
}

static enum status gpu_create(struct assay_plan *plan, int device, const char *name,
                              enum arithmetic_class cls)
{
    const struct gpu_variant *variant = NULL;
    const char *wanted = name ? name : "gpu-auto";
    enum status status = gpu_status(&last_error);
    if (!built_with_cuda())
        return error_set(&last_error, STATUS_UNSUPPORTED,
                         "CUDA device %d: the library was built without CUDA; build it where nvcc "
                         "is, with 'make lib'",
                         device);
    if (status != STATUS_OK)
        return error_prefix(&last_error, "CUDA device %d", device);
    for (size_t i = 0; i < gpu_variant_count() && !variant; i++)
        if (strcmp(gpu_variant_at(i)->name, wanted) == 0)
            variant = gpu_variant_at(i);
    if (!variant)
        return error_set(&last_error, STATUS_UNSUPPORTED,
                         "no variant '%.100s' on a GPU: see 'assay info'", wanted);
    if (name && variant->cls > cls)
        return error_set(&last_error, STATUS_UNSUPPORTED,
                         "variant '%s' rounds as %s, wider than the '%s' that was asked", name,
                         arithmetic_class_get(variant->cls)->name, arithmetic_class_get(cls)->name);
    return gpu_plan_create(&plan->gpu, variant, &plan->problem, &plan->params, cls, device,
                           &last_error);
}

int assay_plan_create(struct assay_plan **out_plan, const struct assay_problem *problem, int device,
                      const char *arithmetic, const char *variant, const float *weight,
                      const float *conv_bias, const float *bias)
{
    const struct params params = {.weight = weight, .conv_bias = conv_bias, .bias = bias};
    enum arithmetic_class cls;
    struct assay_plan *plan = calloc(1, sizeof *plan);
    enum status status = STATUS_OK;
    *out_plan = NULL;
    if (!plan)
        return give(error_set(&last_error, STATUS_ENVIRONMENT, "out of memory"));
    if ((status = arithmetic_class_parse(arithmetic, &cls, &last_error)) != STATUS_OK ||
        (status = problem_of(problem, &plan->problem)) != STATUS_OK)
        goto out;
    if (cls < CLASS_FP32) {
        status = error_set(&last_error, STATUS_UNSUPPORTED,
                           "arithmetic '%.30s': x and y are float32; use 'fp32'", arithmetic);
        goto out;
    }
    if (plan->problem.has_conv_bias != (conv_bias != NULL) || !weight || !bias) {
        status = error_set(&last_error, STATUS_BAD_INPUT,
                           "a parameter is missing, or conv_bias disagrees with has_conv_bias");
        goto out;
    }
    if ((status = copy_params(plan, &params)) != STATUS_OK)
        goto out;
    status =
        device == ASSAY_CPU ? cpu_create(plan, variant) : gpu_create(plan, device, variant, cls);
out:
    if (status != STATUS_OK) {
        assay_plan_free(plan);
        return give(status);
    }
    *out_plan = plan;
    return ASSAY_OK;
}

void assay_plan_free(struct assay_plan *plan)
{
    if (!plan)
        return;
    model_gemm_free(plan->cpu);
    gpu_plan_free(plan->gpu);
    free(plan->storage);
    free(plan);
}

const char *assay_plan_note(const struct assay_plan *plan)
{
    if (plan->cpu)
        return "cpu-gemm";
    const char *note = gpu_plan_note(plan->gpu);
    return *note ? note : gpu_plan_variant(plan->gpu)->name;
}

int64_t assay_plan_images(const struct assay_plan *plan)
{
    return plan->cpu ? plan->problem.batch : gpu_plan_slice(plan->gpu);
}

int assay_plan_holds(const struct assay_plan *plan, const float *weight, const float *conv_bias,
                     const float *bias)
{
    const struct problem *p = &plan->problem;
    if (p->has_conv_bias != (conv_bias != NULL))
        return 0;
    return memcmp(plan->params.bias, bias, (size_t)p->bias_count * sizeof *bias) == 0 &&
           (!conv_bias || memcmp(plan->params.conv_bias, conv_bias,
                                 (size_t)p->out_channels * sizeof *bias) == 0) &&
           memcmp(plan->params.weight, weight, (size_t)problem_weight_count(p) * sizeof *weight) ==
               0;
}

int assay_plan_run(struct assay_plan *plan, const float *x, float *y, int64_t images, void *stream)
{
    if (plan->gpu)
        return give(gpu_plan_run(plan->gpu, x, y, images, stream, &last_error));
    if (images < 0)
        return give(error_set(&last_error, STATUS_BAD_INPUT, "%lld images", (long long)images));
    return give(model_gemm_run(plan->cpu, x, y, images, NULL, &last_error));
}

int assay_plan_run_host(struct assay_plan *plan, const float *x, float *y)
{
    if (plan->gpu)
        return give(gpu_plan_run_host(plan->gpu, x, y, NULL, NULL, &last_error));
    return assay_plan_run(plan, x, y, plan->problem.batch, NULL);
}
