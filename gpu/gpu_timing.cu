#include "gpu/gpu_timing.h"

#include <cuda_profiler_api.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/cuda_check.h"
#include "gpu/nvml.h"
#include "gpu/random_fill.cuh"

#define MAX_LAUNCHES 16      /* captured in one graph */
#define SHORT_LAUNCH_S 30e-6 /* below this, graphs */
#define LATE_S 1e-4
#define WARM_UP_S 0.2
#define WARM_UP_RUNS 3
#define HEAD_START_CYCLES 60000 /* about 35 us: the time to enqueue a launch */
#define READ_PERIOD_S 0.02

struct gpu_timing {
    struct gpu_plan *plan;
    struct problem problem;
    int64_t images, x_image, y_image;
    int launches; /* of the plan in a sample: a group of sets */
    int groups;
    float *d_x[2 * MAX_LAUNCHES], *d_y[2 * MAX_LAUNCHES];
    cudaGraphExec_t graph[2];
    char *d_flush; /* NULL: x and y are larger than L2 by themselves */
    size_t flush_bytes;
    unsigned long long *d_hash, *h_hash,
        *first_hash; /* one for each image; first: by caller's order */
    bool have_hash;
    int last_group; /* of the last sample; -1: none yet */
    int poison;
    cudaStream_t stream;
    cudaEvent_t start, stop;
    double last_read_s;
    struct nvml_reading reading;
    unsigned clock_min, clock_max;
    unsigned long long throttle;
    struct gpu_timing_result result;
};

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- kernels around the launch -------------------------------------------------------------- */

/* Keeps the stream busy while the host enqueues what is to be timed. */
__global__ void head_start_kernel(long long cycles)
{
    const long long start = clock64();
    while (clock64() - start < cycles)
        ;
}

#define HASH_THREADS 256

/* hash[image] += sum over elements of a mix of bits and place; order does not matter. */
__global__ void __launch_bounds__(HASH_THREADS)
    hash_kernel(const unsigned *y, int64_t count, unsigned long long *hash)
{
    __shared__ unsigned long long shared[HASH_THREADS / 32];
    const unsigned *const from = y + blockIdx.y * count;
    unsigned long long sum = 0;
    for (int64_t i = blockIdx.x * (int64_t)HASH_THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * HASH_THREADS)
        sum += ((unsigned long long)from[i] + 0x9e3779b97f4a7c15ull) * (2 * i + 1);
    for (int step = 16; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < HASH_THREADS / 32; w++)
            sum += shared[w];
        atomicAdd(&hash[blockIdx.y], sum);
    }
}

/* ---- set-up -------------------------------------------------------------------------------- */

static size_t set_bytes(const struct gpu_timing *t)
{
    return (size_t)(t->images * (t->x_image + t->y_image)) * sizeof(float);
}

/* Copies the caller's images to set s, rotated: image i of the set is image (i + s) % images. */
static enum status upload(struct gpu_timing *t, const float *x, int s, struct error *error)
{
    enum status status = STATUS_OK;
    const int64_t turn = t->images > 0 ? s % t->images : 0, rest = t->images - turn;
    const size_t image = (size_t)t->x_image * sizeof(float);
    if (!x) {
        random_fill_kernel<<<1024, 256, 0, t->stream>>>(t->d_x[s], t->images * t->x_image,
                                                        12345u + (unsigned)s);
        CHECK_LAUNCH("random_fill_kernel");
        CHECK(cudaStreamSynchronize(t->stream));
        goto out;
    }
    CHECK(
        cudaMemcpy(t->d_x[s], x + turn * t->x_image, (size_t)rest * image, cudaMemcpyHostToDevice));
    if (turn > 0)
        CHECK(cudaMemcpy(t->d_x[s] + rest * t->x_image, x, (size_t)turn * image,
                         cudaMemcpyHostToDevice));
out:
    return status;
}

/* Adds sets until there are `count`; keeps what fitted. */
static enum status add_sets(struct gpu_timing *t, const float *x, int count, struct error *error)
{
    enum status status = STATUS_OK;
    while (t->result.sets < count) {
        const int s = t->result.sets;
        if (cudaMalloc(&t->d_x[s], (size_t)(t->images * t->x_image) * sizeof(float)) !=
                cudaSuccess ||
            cudaMalloc(&t->d_y[s], (size_t)(t->images * t->y_image) * sizeof(float)) !=
                cudaSuccess) {
            cudaGetLastError();
            cudaFree(t->d_x[s]);
            t->d_x[s] = NULL;
            if (s == 0)
                status = error_set(error, STATUS_ENVIRONMENT,
                                   "%.2f GB of device memory for x and y are not free",
                                   1e-9 * (double)set_bytes(t));
            goto out;
        }
        const double start = now_seconds();
        status = upload(t, x, s, error);
        if (status != STATUS_OK)
            goto out;
        if (s == 0 && x)
            t->result.h2d_s = now_seconds() - start;
        t->result.sets++;
    }
out:
    return status;
}

static enum status launch_group(struct gpu_timing *t, int group, struct error *error)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < t->launches && status == STATUS_OK; i++) {
        const int s = group * t->launches + i;
        status = gpu_plan_run(t->plan, t->d_x[s], t->d_y[s], t->images, t->stream, error);
    }
    return status;
}

static enum status poison_group(struct gpu_timing *t, int group, struct error *error)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < t->launches; i++)
        CHECK(cudaMemsetAsync(t->d_y[group * t->launches + i], t->poison ? 0xff : 0xcd,
                              (size_t)(t->images * t->y_image) * sizeof(float), t->stream));
    t->poison = !t->poison;
out:
    return status;
}

/* Runs until clocks have risen, and takes the shortest run as the estimate of one launch. */
static enum status warm_up(struct gpu_timing *t, double *launch_s, struct error *error)
{
    enum status status = STATUS_OK;
    const double begin = now_seconds();
    *launch_s = 1e30;
    for (int i = 0; i < WARM_UP_RUNS || (now_seconds() - begin < WARM_UP_S && i < 1000); i++) {
        float ms;
        head_start_kernel<<<1, 1, 0, t->stream>>>(HEAD_START_CYCLES);
        CHECK_LAUNCH("head_start_kernel");
        CHECK(cudaEventRecord(t->start, t->stream));
        status = gpu_plan_run(t->plan, t->d_x[0], t->d_y[0], t->images, t->stream, error);
        if (status != STATUS_OK)
            goto out;
        CHECK(cudaEventRecord(t->stop, t->stream));
        CHECK(cudaEventSynchronize(t->stop));
        CHECK(cudaEventElapsedTime(&ms, t->start, t->stop));
        *launch_s = fmin(*launch_s, 1e-3 * ms);
    }
out:
    return status;
}

/* Captures each group's launches in a graph; false where the plan cannot be captured. */
static bool capture(struct gpu_timing *t)
{
    struct error ignored;
    for (int group = 0; group < t->groups; group++) {
        cudaGraph_t graph = NULL;
        if (cudaStreamBeginCapture(t->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess)
            return false;
        const enum status status = launch_group(t, group, &ignored);
        const bool ended = cudaStreamEndCapture(t->stream, &graph) == cudaSuccess;
        const bool made = ended && status == STATUS_OK && graph &&
                          cudaGraphInstantiate(&t->graph[group], graph, 0) == cudaSuccess;
        if (graph)
            cudaGraphDestroy(graph);
        cudaGetLastError();
        if (!made)
            return false;
    }
    return true;
}

enum status gpu_timing_create(struct gpu_timing **out_timing, struct gpu_plan *plan, const float *x,
                              struct error *error)
{
    enum status status = STATUS_OK;
    struct gpu_device_info info;
    double launch_s;
    struct gpu_timing *t = (struct gpu_timing *)calloc(1, sizeof *t);
    *out_timing = NULL;
    if (!t)
        return error_set(error, STATUS_ENVIRONMENT, "out of host memory");
    t->plan = plan;
    t->problem = *gpu_plan_problem(plan);
    t->images = gpu_plan_slice(plan);
    t->x_image = problem_input_image(&t->problem);
    t->y_image = problem_output_image(&t->problem);
    t->launches = 1;
    t->last_group = -1;
    t->clock_min = ~0u;
    t->result.images = t->images;
    if (t->images == 0) {
        status = error_set(error, STATUS_UNSUPPORTED, "a batch of 0 images cannot be timed");
        goto out;
    }
    if ((status = gpu_device_info_get(gpu_plan_device(plan), &info, error)) != STATUS_OK)
        goto out;
    snprintf(t->result.device, sizeof t->result.device, "%s", info.name);
    snprintf(t->result.driver, sizeof t->result.driver, "%d.%d", info.driver_version / 1000,
             info.driver_version % 1000 / 10);
    CHECK(cudaSetDevice(gpu_plan_device(plan)));
    CHECK(cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&t->start));
    CHECK(cudaEventCreate(&t->stop));
    t->h_hash = (unsigned long long *)malloc((size_t)t->images * sizeof *t->h_hash);
    t->first_hash = (unsigned long long *)malloc((size_t)t->images * sizeof *t->first_hash);
    if (!t->h_hash || !t->first_hash) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of host memory");
        goto out;
    }
    CHECK(cudaMalloc(&t->d_hash, (size_t)t->images * sizeof *t->d_hash));
    if (set_bytes(t) < 2 * info.l2_bytes) {
        t->flush_bytes = 2 * info.l2_bytes;
        CHECK(cudaMalloc(&t->d_flush, t->flush_bytes));
    }
    if ((status = add_sets(t, x, 2, error)) != STATUS_OK ||
        (status = warm_up(t, &launch_s, error)) != STATUS_OK)
        goto out;
    if (launch_s < SHORT_LAUNCH_S) {
        if ((status = add_sets(t, x, 2 * MAX_LAUNCHES, error)) != STATUS_OK)
            goto out;
        t->launches = t->result.sets / 2 > 0 ? t->result.sets / 2 : 1;
    }
    t->groups = t->result.sets >= 2 ? 2 : 1;
    if (t->launches > 1 && !capture(t))
        t->launches = 1;
    t->result.launches_per_sample = t->launches;
    for (int group = 0; group < t->groups; group++)
        if ((status = poison_group(t, group, error)) != STATUS_OK)
            goto out;
    CHECK(cudaDeviceSynchronize());
out:
    if (status != STATUS_OK) {
        gpu_timing_free(t);
        return status;
    }
    *out_timing = t;
    return STATUS_OK;
}

void gpu_timing_free(struct gpu_timing *t)
{
    if (!t)
        return;
    for (int i = 0; i < 2; i++)
        if (t->graph[i])
            cudaGraphExecDestroy(t->graph[i]);
    for (int s = 0; s < 2 * MAX_LAUNCHES; s++) {
        cudaFree(t->d_y[s]);
        cudaFree(t->d_x[s]);
    }
    cudaFree(t->d_flush);
    cudaFree(t->d_hash);
    free(t->h_hash);
    free(t->first_hash);
    if (t->stop)
        cudaEventDestroy(t->stop);
    if (t->start)
        cudaEventDestroy(t->start);
    if (t->stream)
        cudaStreamDestroy(t->stream);
    free(t);
    cudaGetLastError();
}

/* ---- sampling ------------------------------------------------------------------------------- */

static void read_clocks(struct gpu_timing *t)
{
    const double now = now_seconds();
    if (t->last_read_s != 0.0 && now - t->last_read_s < READ_PERIOD_S)
        return;
    t->last_read_s = now;
    nvml_read(gpu_plan_device(t->plan), &t->reading);
    const unsigned clock = t->reading.sm_clock_mhz;
    t->clock_min = clock < t->clock_min ? clock : t->clock_min;
    t->clock_max = clock > t->clock_max ? clock : t->clock_max;
    t->throttle |= t->reading.throttle;
}

/* Compares the sample's outputs with the first's, image by image, the rotation undone. */
static enum status compare_hashes(struct gpu_timing *t, int group, struct error *error)
{
    enum status status = STATUS_OK;
    bool same = true;
    if (gpu_plan_varies(t->plan))
        return STATUS_OK;
    const size_t bytes = (size_t)t->images * sizeof *t->d_hash;
    const int64_t blocks = (t->y_image + HASH_THREADS * 16 - 1) / (HASH_THREADS * 16);
    for (int i = 0; i < t->launches; i++) {
        const int s = group * t->launches + i;
        CHECK(cudaMemsetAsync(t->d_hash, 0, bytes, t->stream));
        for (int64_t first = 0; first < t->images; first += 65535) {
            const int64_t images = t->images - first < 65535 ? t->images - first : 65535;
            hash_kernel<<<dim3((unsigned)(blocks < 1024 ? blocks : 1024), (unsigned)images),
                          HASH_THREADS, 0, t->stream>>>(
                (const unsigned *)t->d_y[s] + first * t->y_image, t->y_image, t->d_hash + first);
            CHECK_LAUNCH("hash_kernel");
        }
        CHECK(cudaMemcpyAsync(t->h_hash, t->d_hash, bytes, cudaMemcpyDeviceToHost, t->stream));
        CHECK(cudaStreamSynchronize(t->stream));
        for (int64_t n = 0; n < t->images; n++) {
            const int64_t image = (n + s) % t->images;
            if (!t->have_hash)
                t->first_hash[image] = t->h_hash[n];
            same = same && t->first_hash[image] == t->h_hash[n];
        }
        t->have_hash = true;
    }
    t->result.differing_samples += !same;
out:
    return status;
}

enum status gpu_timing_sample(struct gpu_timing *t, struct error *error)
{
    enum status status = STATUS_OK;
    struct gpu_timing_result *r = &t->result;
    const int group = t->last_group < 0 ? 0 : (t->last_group + 1) % t->groups;
    float ms;
    if (r->count >= GPU_TIMING_SAMPLES)
        return error_set(error, STATUS_ENVIRONMENT, "no room for more than %d samples",
                         GPU_TIMING_SAMPLES);
    CHECK(cudaSetDevice(gpu_plan_device(t->plan)));
    if (t->last_group >= 0) /* create() poisoned every group for its first sample */
        status = poison_group(t, (group + 1) % t->groups, error);
    if (status != STATUS_OK)
        goto out;
    if (t->d_flush)
        CHECK(cudaMemsetAsync(t->d_flush, t->poison, t->flush_bytes, t->stream));
    CHECK(cudaCtxResetPersistingL2Cache());
    CHECK(cudaDeviceSynchronize());
    head_start_kernel<<<1, 1, 0, t->stream>>>(HEAD_START_CYCLES);
    CHECK_LAUNCH("head_start_kernel");
    CHECK(cudaEventRecord(t->start, t->stream));
    if (t->launches > 1)
        CHECK(cudaGraphLaunch(t->graph[group], t->stream));
    else if ((status = launch_group(t, group, error)) != STATUS_OK)
        goto out;
    CHECK(cudaEventRecord(t->stop, t->stream));
    CHECK(cudaEventSynchronize(t->stop));
    {
        const double stopped = now_seconds();
        CHECK(cudaDeviceSynchronize());
        const double late = now_seconds() - stopped;
        CHECK(cudaEventElapsedTime(&ms, t->start, t->stop));
        r->late_samples += late > LATE_S;
        r->samples_s[r->count++] = (1e-3 * ms + (late > LATE_S ? late : 0.0)) / t->launches;
    }
    t->last_group = group;
    read_clocks(t);
    status = compare_hashes(t, group, error);
out:
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median and the order statistics that enclose it with 95 % confidence (normal approximation of the
 * binomial's ranks; the range where there are too few). */
static void sum_up(struct gpu_timing_result *r)
{
    static double sorted[GPU_TIMING_SAMPLES];
    const int64_t n = r->count;
    if (n == 0)
        return;
    memcpy(sorted, r->samples_s, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    int64_t low = (int64_t)floor(0.5 * ((double)n - 1.96 * sqrt((double)n)));
    low = low < 1 ? 1 : low;
    r->median_s = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
    r->ci_low_s = sorted[low - 1];
    r->ci_high_s = sorted[n - low];
}

enum status gpu_timing_run(struct gpu_timing *t, const struct gpu_timing_rule *rule,
                           struct error *error)
{
    enum status status = STATUS_OK;
    struct gpu_timing_result *r = &t->result;
    const int64_t least = rule->min_samples > 0 ? rule->min_samples : 10;
    const double width = rule->half_width > 0.0 ? rule->half_width : 0.005;
    const double budget = rule->budget_s > 0.0 ? rule->budget_s : 10.0;
    const double begin = now_seconds();
    for (int64_t taken = 0; r->count < GPU_TIMING_SAMPLES; taken++) {
        if (rule->samples > 0 && taken >= rule->samples)
            break;
        if (rule->samples == 0 && r->count > 0) {
            sum_up(r);
            const double half =
                fmax(r->median_s - r->ci_low_s, r->ci_high_s - r->median_s) / r->median_s;
            if ((r->count >= least && half <= width) || now_seconds() - begin >= budget)
                break;
        }
        if ((status = gpu_timing_sample(t, error)) != STATUS_OK)
            break;
    }
    sum_up(r);
    return status;
}

const struct gpu_timing_result *gpu_timing_result(struct gpu_timing *t,
                                                  const struct gpu_ceilings *ceilings)
{
    struct gpu_timing_result *r = &t->result;
    const char *bound_by = "";
    sum_up(r);
    if (ceilings) {
        r->ceilings = *ceilings;
        r->floor_s =
            gpu_floor(&t->problem, t->images, gpu_plan_variant(t->plan), ceilings, &bound_by);
        r->over_floor = r->floor_s > 0.0 ? r->median_s / r->floor_s : 0.0;
    }
    snprintf(r->bound_by, sizeof r->bound_by, "%s", bound_by);
    r->sm_clock_min_mhz = t->clock_max > 0 ? (int)t->clock_min : 0;
    r->sm_clock_max_mhz = (int)t->clock_max;
    r->memory_clock_mhz = (int)t->reading.memory_clock_mhz;
    nvml_throttle_text(t->throttle, r->throttle, sizeof r->throttle);
    return r;
}

/* ---- outputs -------------------------------------------------------------------------------- */

int gpu_timing_outputs(const struct gpu_timing *t)
{
    return t->last_group < 0 ? 0 : t->launches;
}

enum status gpu_timing_output(struct gpu_timing *t, int index, float *y, struct error *error)
{
    enum status status = STATUS_OK;
    const int s = t->last_group * t->launches + index;
    const int64_t turn = s % t->images, rest = t->images - turn;
    const size_t image = (size_t)t->y_image * sizeof *y;
    const double start = now_seconds();
    CHECK(
        cudaMemcpy(y + turn * t->y_image, t->d_y[s], (size_t)rest * image, cudaMemcpyDeviceToHost));
    if (turn > 0)
        CHECK(cudaMemcpy(y, t->d_y[s] + rest * t->y_image, (size_t)turn * image,
                         cudaMemcpyDeviceToHost));
    t->result.d2h_s = now_seconds() - start;
out:
    return status;
}

enum status gpu_plan_profile(struct gpu_plan *plan, struct error *error)
{
    enum status status = STATUS_OK;
    const struct problem *p = gpu_plan_problem(plan);
    const int64_t images = gpu_plan_slice(plan);
    const int64_t x_count = images * problem_input_image(p);
    float *d_x = NULL, *d_y = NULL;
    CHECK(cudaSetDevice(gpu_plan_device(plan)));
    CHECK(cudaMalloc(&d_x, (size_t)(x_count > 0 ? x_count : 1) * sizeof *d_x));
    CHECK(cudaMalloc(&d_y,
                     (size_t)(images > 0 ? images * problem_output_image(p) : 1) * sizeof *d_y));
    random_fill_kernel<<<1024, 256>>>(d_x, x_count, 1u);
    CHECK_LAUNCH("random_fill_kernel");
    status = gpu_plan_run(plan, d_x, d_y, images, NULL, error);
    if (status != STATUS_OK)
        goto out;
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaProfilerStart());
    status = gpu_plan_run(plan, d_x, d_y, images, NULL, error);
    if (status != STATUS_OK)
        goto out;
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaProfilerStop());
out:
    cudaFree(d_y);
    cudaFree(d_x);
    return status;
}
