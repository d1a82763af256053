/* Devices and plans: everything of gpu.h but the table. */
#include <cuda_runtime.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/cuda_check.h"
#include "gpu/cudnn.h"
#include "gpu/nvml.h"
#include "gpu/variant.h"
#include "ref/descriptor.h"

#define MEMORY_SHARE 0.92                  /* of the free device memory that a plan may count on */
#define MEMORY_RESERVE ((size_t)256 << 20) /* for kernels' code, libraries and the like */
#define DEVICE_LIMIT 64

struct gpu_plan {
    const struct variant_ops *ops;
    struct variant_context context;
    char descriptor[DESCRIPTOR_SIZE];
    float *h_params, *d_params; /* weight, conv_bias, bias, one after the other */
    float *d_x, *d_y;           /* for runs on host pointers: a slice of each */
};

/* ---- devices -------------------------------------------------------------------------------- */

enum status gpu_status(struct error *error)
{
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0)
        return STATUS_OK;
    cudaGetLastError();
    int driver = 0, runtime = 0;
    if (code == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess &&
        driver > 0 && cudaRuntimeGetVersion(&runtime) == cudaSuccess)
        return error_set(error, STATUS_UNSUPPORTED,
                         "the CUDA driver is for CUDA %d.%d: %d.%d or later is needed",
                         driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (code == cudaSuccess || code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver ||
        code == cudaErrorStubLibrary)
        return error_set(error, STATUS_UNSUPPORTED, "no CUDA device");
    return error_set(error, STATUS_UNSUPPORTED, "the CUDA driver says: %s (%s)",
                     cudaGetErrorString(code), cudaGetErrorName(code));
}

int gpu_device_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return count;
}

/* Properties are slow to ask for, and do not change. */
static enum status device_properties(int device, const struct cudaDeviceProp **properties,
                                     struct error *error)
{
    static struct cudaDeviceProp known[DEVICE_LIMIT];
    static bool have[DEVICE_LIMIT];
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    enum status status = gpu_status(error);
    if (status != STATUS_OK)
        return status;
    if (device < 0 || device >= gpu_device_count() || device >= DEVICE_LIMIT)
        return error_set(error, STATUS_BAD_INPUT, "no CUDA device %d: there are %d, from 0", device,
                         gpu_device_count());
    pthread_mutex_lock(&mutex);
    if (!have[device])
        CHECK(cudaGetDeviceProperties(&known[device], device));
    have[device] = true;
    *properties = &known[device];
out:
    pthread_mutex_unlock(&mutex);
    return status;
}

enum status gpu_device_info_get(int device, struct gpu_device_info *info, struct error *error)
{
    const struct cudaDeviceProp *p;
    struct nvml_reading reading;
    int before = 0;
    memset(info, 0, sizeof *info);
    enum status status = device_properties(device, &p, error);
    if (status != STATUS_OK)
        return status;
    snprintf(info->name, sizeof info->name, "%.127s", p->name);
    {
        const unsigned char *u = (const unsigned char *)p->uuid.bytes;
        int n = snprintf(info->uuid, sizeof info->uuid, "GPU-");
        for (int i = 0; i < 16; i++)
            n += snprintf(info->uuid + n, sizeof info->uuid - (size_t)n, "%s%02x",
                          i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
    }
    info->compute_major = p->major;
    info->compute_minor = p->minor;
    info->multiprocessors = p->multiProcessorCount;
    info->memory_bytes = p->totalGlobalMem;
    info->l2_bytes = (size_t)p->l2CacheSize;
    cudnn_version(info->cudnn, sizeof info->cudnn);
    nvml_read(device, &reading);
    info->sm_clock_mhz = (int)reading.sm_clock_mhz;
    info->memory_clock_mhz = (int)reading.memory_clock_mhz;
    info->sm_clock_max_mhz = (int)reading.sm_clock_max_mhz;
    CHECK(cudaGetDevice(&before));
    CHECK(cudaSetDevice(device));
    {
        size_t total;
        CHECK(cudaMemGetInfo(&info->memory_free_bytes, &total));
    }
    CHECK(cudaDriverGetVersion(&info->driver_version));
    CHECK(cudaRuntimeGetVersion(&info->runtime_version));
    CHECK(cudaSetDevice(before));
out:
    return status;
}

/* ---- variants ------------------------------------------------------------------------------- */

size_t gpu_variant_count(void)
{
    return variant_table_count;
}

const struct gpu_variant *gpu_variant_at(size_t index)
{
    return index < variant_table_count ? &variant_table[index]->info : NULL;
}

bool gpu_variant_supports(const struct gpu_variant *variant, const struct problem *problem,
                          int device, char *reason, size_t reason_size)
{
    /* `info` is the first member of the row, so a variant's address is its row's. */
    static_assert(offsetof(struct variant_ops, info) == 0, "gpu_variant_at returns &row->info");
    const struct variant_ops *ops = (const struct variant_ops *)variant;
    const struct cudaDeviceProp *p;
    struct error error;
    if (device_properties(device, &p, &error) != STATUS_OK) {
        snprintf(reason, reason_size, "%.500s", error.message);
        return false;
    }
    if (p->major < 8) {
        snprintf(reason, reason_size, "compute capability %d.%d: 8.0 or later is needed", p->major,
                 p->minor);
        return false;
    }
    return ops->supports(problem, p, reason, reason_size);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static size_t slice_bytes(const struct variant_ops *ops, const struct problem *p, int64_t images)
{
    const size_t tensors =
        (size_t)images * (size_t)(problem_input_image(p) + problem_output_image(p)) * sizeof(float);
    return tensors + (ops->workspace ? ops->workspace(p, images) : 0);
}

/* The most images, up to the batch, whose x, y and workspace fit. */
static enum status choose_slice(struct gpu_plan *plan, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &plan->context.problem;
    const size_t weights = 3 * sizeof(float) * (size_t)problem_weight_count(p);
    size_t available, total;
    int64_t low = 1, high = p->batch;
    CHECK(cudaMemGetInfo(&available, &total));
    available = (size_t)((double)available * MEMORY_SHARE);
    available = available > MEMORY_RESERVE + weights ? available - MEMORY_RESERVE - weights : 0;
    if (high > 0 && slice_bytes(plan->ops, p, 1) > available) {
        status =
            error_set(error, STATUS_ENVIRONMENT,
                      "one image needs %.2f GB of device memory and %.2f GB is free; free some,"
                      " or use a smaller problem",
                      (double)slice_bytes(plan->ops, p, 1) * 1e-9, (double)available * 1e-9);
        goto out;
    }
    while (low < high) { /* bytes rise with images */
        const int64_t middle = high - (high - low) / 2;
        if (slice_bytes(plan->ops, p, middle) <= available)
            low = middle;
        else
            high = middle - 1;
    }
    plan->context.slice = high;
out:
    return status;
}

static enum status copy_params(struct gpu_plan *plan, const struct params *params,
                               struct error *error)
{
    enum status status = STATUS_OK;
    struct variant_context *c = &plan->context;
    const struct problem *p = &c->problem;
    const size_t weights = (size_t)problem_weight_count(p), channels = (size_t)p->out_channels;
    /* The biases start where 16-byte loads may. */
    const size_t first = (weights + 63) / 64 * 64, second = first + (channels + 63) / 64 * 64;
    const size_t count = second + channels;
    float *h = (float *)calloc(count, sizeof *h);
    plan->h_params = h;
    if (!h) {
        status =
            error_set(error, STATUS_ENVIRONMENT, "out of host memory for %zu parameters", count);
        goto out;
    }
    memcpy(h, params->weight, weights * sizeof *h);
    if (p->has_conv_bias)
        memcpy(h + first, params->conv_bias, channels * sizeof *h);
    for (size_t i = 0; i < channels; i++)
        h[second + i] = params->bias[p->bias_count == 1 ? 0 : i];
    CHECK(cudaMalloc(&plan->d_params, count * sizeof *h));
    CHECK(cudaMemcpy(plan->d_params, h, count * sizeof *h, cudaMemcpyHostToDevice));
    c->h_params.weight = h;
    c->h_params.conv_bias = h + first;
    c->h_params.bias = h + second;
    c->d_weight = plan->d_params;
    c->d_conv_bias = plan->d_params + first;
    c->d_bias = plan->d_params + second;
out:
    return status;
}

enum status gpu_plan_create(struct gpu_plan **out_plan, const struct gpu_variant *variant,
                            const struct problem *problem, const struct params *params,
                            enum arithmetic_class cls, int device, struct error *error)
{
    const struct variant_ops *ops = (const struct variant_ops *)variant;
    const struct cudaDeviceProp *properties;
    char reason[512];
    struct gpu_plan *plan = (struct gpu_plan *)calloc(1, sizeof *plan);
    enum status status = STATUS_OK;
    *out_plan = NULL;
    if (!plan)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    descriptor_print(problem, plan->descriptor, sizeof plan->descriptor);
    plan->ops = ops;
    plan->context.problem = *problem;
    plan->context.device = device;
    plan->context.cls = cls;
    if (!gpu_variant_supports(variant, problem, device, reason, sizeof reason)) {
        status = error_set(error, STATUS_UNSUPPORTED, "%s", reason);
        goto out;
    }
    status = device_properties(device, &properties, error);
    if (status != STATUS_OK)
        goto out;
    plan->context.properties = properties;
    plan->context.multiprocessors = properties->multiProcessorCount;
    CHECK(cudaSetDevice(device));
    if ((status = copy_params(plan, params, error)) != STATUS_OK ||
        (status = choose_slice(plan, error)) != STATUS_OK)
        goto out;
    if (ops->prepare && problem->batch > 0 &&
        (status = ops->prepare(&plan->context, error)) != STATUS_OK)
        goto out;
    CHECK(cudaDeviceSynchronize());
out:
    if (status != STATUS_OK) {
        error_prefix(error, "variant '%s' on '%.180s'", variant->name, plan->descriptor);
        gpu_plan_free(plan);
        return status;
    }
    *out_plan = plan;
    return STATUS_OK;
}

void gpu_plan_free(struct gpu_plan *plan)
{
    if (!plan)
        return;
    cudaSetDevice(plan->context.device);
    if (plan->ops->release)
        plan->ops->release(&plan->context);
    cudaFree(plan->d_y);
    cudaFree(plan->d_x);
    cudaFree(plan->d_params);
    free(plan->h_params);
    free(plan);
    cudaGetLastError();
}

const char *gpu_plan_note(const struct gpu_plan *plan)
{
    return plan->context.note;
}

int64_t gpu_plan_slice(const struct gpu_plan *plan)
{
    return plan->context.slice;
}

const struct problem *gpu_plan_problem(const struct gpu_plan *plan)
{
    return &plan->context.problem;
}

const struct gpu_variant *gpu_plan_variant(const struct gpu_plan *plan)
{
    return &variant_resolve(plan->ops, &plan->context)->info;
}

int gpu_plan_device(const struct gpu_plan *plan)
{
    return plan->context.device;
}

bool gpu_plan_varies(const struct gpu_plan *plan)
{
    return plan->context.varies;
}

enum status gpu_plan_run(struct gpu_plan *plan, const float *d_x, float *d_y, int64_t images,
                         void *stream, struct error *error)
{
    if (images == 0)
        return STATUS_OK;
    cudaGetLastError(); /* an error that the caller left would be taken for a launch's */
    const enum status status =
        images < 0 || images > plan->context.slice
            ? error_set(error, STATUS_BAD_INPUT, "%lld images asked of a plan for %lld",
                        (long long)images, (long long)plan->context.slice)
            : plan->ops->launch(&plan->context, d_x, d_y, images, (cudaStream_t)stream, error);
    if (status != STATUS_OK)
        error_prefix(error, "variant '%s' on '%.180s'", plan->ops->info.name, plan->descriptor);
    return status;
}

void gpu_plan_release_buffers(struct gpu_plan *plan)
{
    cudaFree(plan->d_y);
    cudaFree(plan->d_x);
    plan->d_x = plan->d_y = NULL;
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum status gpu_plan_run_host(struct gpu_plan *plan, const float *x, float *y, double *h2d_s,
                              double *d2h_s, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = &plan->context.problem;
    const int64_t x_image = problem_input_image(p), y_image = problem_output_image(p);
    const int64_t slice = plan->context.slice;
    double to_device = 0.0, to_host = 0.0;
    cudaGetLastError();
    CHECK(cudaSetDevice(plan->context.device));
    if (slice > 0 && !plan->d_x)
        CHECK(cudaMalloc(&plan->d_x, (size_t)(slice * x_image) * sizeof *x));
    if (slice > 0 && !plan->d_y)
        CHECK(cudaMalloc(&plan->d_y, (size_t)(slice * y_image) * sizeof *y));
    for (int64_t first = 0; first < p->batch; first += slice) {
        const int64_t images = p->batch - first < slice ? p->batch - first : slice;
        double start = now_seconds();
        CHECK(cudaMemcpy(plan->d_x, x + first * x_image, (size_t)(images * x_image) * sizeof *x,
                         cudaMemcpyHostToDevice));
        to_device += now_seconds() - start;
        /* NaN, so that what a kernel leaves unwritten shows. */
        CHECK(cudaMemset(plan->d_y, 0xff, (size_t)(images * y_image) * sizeof *y));
        status = plan->ops->launch(&plan->context, plan->d_x, plan->d_y, images, NULL, error);
        if (status != STATUS_OK)
            goto out;
        CHECK(cudaDeviceSynchronize());
        start = now_seconds();
        CHECK(cudaMemcpy(y + first * y_image, plan->d_y, (size_t)(images * y_image) * sizeof *y,
                         cudaMemcpyDeviceToHost));
        to_host += now_seconds() - start;
    }
out:
    if (h2d_s)
        *h2d_s = to_device;
    if (d2h_s)
        *d2h_s = to_host;
    if (status != STATUS_OK)
        error_prefix(error, "variant '%s' on '%.180s'", plan->ops->info.name, plan->descriptor);
    return status;
}
