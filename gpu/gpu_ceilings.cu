/* What the device can do: copy, write, and cuBLAS's matrix rates, each the median of several runs
 * by CUDA events on random data; and the floor that follows for a problem. */
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/cuda_check.h"
#include "gpu/gpu_timing.h"
#include "gpu/library.h"
#include "gpu/random_fill.cuh"

#define COPY_BYTES ((size_t)2 << 30)
#define MATRIX_SIZE 8192
#define RUNS 7

/* What is used of cublas_api.h. */
typedef void *cublas_handle;
enum { CUBLAS_N = 0, CUBLAS_DEFAULT_ALGORITHM = -1, CUBLAS_32F = 68, CUBLAS_32F_FAST_TF32 = 77 };

struct cublas {
    int (*create)(cublas_handle *);
    int (*destroy)(cublas_handle);
    int (*version)(cublas_handle, int *);
    int (*gemm)(cublas_handle, int, int, int, int, int, const void *, const void *, cudaDataType_t,
                int, const void *, cudaDataType_t, int, const void *, void *, cudaDataType_t, int,
                int, int);
};

static bool cublas_load(struct cublas *c, char *reason, size_t reason_size)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", NULL};
    void *library = library_open(names, reason, reason_size);
    if (!library)
        return false;
#define GET(field, name)                                                                           \
    if (!(*(void **)&c->field = library_function(library, name, reason, reason_size)))             \
    return false
    GET(create, "cublasCreate_v2");
    GET(destroy, "cublasDestroy_v2");
    GET(version, "cublasGetVersion_v2");
    GET(gemm, "cublasGemmEx");
#undef GET
    return true;
}

__global__ void __launch_bounds__(256) copy_kernel(float4 *to, const float4 *from, int64_t count)
{
    const int64_t first = blockIdx.x * 1024ll + threadIdx.x;
    float4 value[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i * 256 < count)
            value[i] = from[first + i * 256];
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i * 256 < count)
            to[first + i * 256] = value[i];
}

__global__ void __launch_bounds__(256) write_kernel(float4 *to, int64_t count, float seed)
{
    const int64_t first = blockIdx.x * 1024ll + threadIdx.x;
    const float4 value = {seed, seed + 1.0f, (float)threadIdx.x, (float)blockIdx.x};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i * 256 < count)
            to[first + i * 256] = value;
}

enum work { WORK_MEMCPY, WORK_COPY, WORK_MEMSET, WORK_WRITE, WORK_FP16, WORK_TF32, WORK_FP32 };

struct bench {
    float *a, *b;
    size_t bytes; /* of each */
    struct cublas blas;
    cublas_handle handle;
    cudaEvent_t start, stop;
};

static int work_launch(struct bench *s, enum work work)
{
    static const float one = 1.0f, zero = 0.0f;
    const int64_t vectors = (int64_t)(s->bytes / sizeof(float4));
    const unsigned grid = (unsigned)((vectors + 1023) / 1024);
    const int n = MATRIX_SIZE;
    float *const c = s->b + (size_t)n * n;
    switch (work) {
    case WORK_MEMCPY:
        return cudaMemcpyAsync(s->b, s->a, s->bytes, cudaMemcpyDeviceToDevice, NULL);
    case WORK_COPY:
        copy_kernel<<<grid, 256>>>((float4 *)s->b, (const float4 *)s->a, vectors);
        return 0;
    case WORK_MEMSET:
        return cudaMemsetAsync(s->b, 0x5a, s->bytes, NULL);
    case WORK_WRITE:
        write_kernel<<<grid, 256>>>((float4 *)s->b, vectors, 1.0f);
        return 0;
    case WORK_FP16:
        return s->blas.gemm(s->handle, CUBLAS_N, CUBLAS_N, n, n, n, &one, s->a, CUDA_R_16F, n, s->b,
                            CUDA_R_16F, n, &zero, c, CUDA_R_16F, n, CUBLAS_32F,
                            CUBLAS_DEFAULT_ALGORITHM);
    case WORK_TF32:
    case WORK_FP32:
        return s->blas.gemm(s->handle, CUBLAS_N, CUBLAS_N, n, n, n, &one, s->a, CUDA_R_32F, n, s->b,
                            CUDA_R_32F, n, &zero, c, CUDA_R_32F, n,
                            work == WORK_TF32 ? CUBLAS_32F_FAST_TF32 : CUBLAS_32F,
                            CUBLAS_DEFAULT_ALGORITHM);
    }
    return 0;
}

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median seconds of RUNS runs after one that warms up; 0 where the library refuses. */
static enum status work_time(struct bench *s, enum work work, double *seconds, struct error *error)
{
    enum status status = STATUS_OK;
    float ms[RUNS];
    *seconds = 0.0;
    for (int i = -1; i < RUNS; i++) {
        CHECK(cudaEventRecord(s->start));
        if (work_launch(s, work) != 0) {
            cudaGetLastError();
            goto out;
        }
        CHECK_LAUNCH("ceiling kernel");
        CHECK(cudaEventRecord(s->stop));
        CHECK(cudaEventSynchronize(s->stop));
        if (i >= 0)
            CHECK(cudaEventElapsedTime(&ms[i], s->start, s->stop));
    }
    qsort(ms, RUNS, sizeof *ms, compare_floats);
    *seconds = 1e-3 * ms[RUNS / 2];
out:
    return status;
}

static enum status best_of(struct bench *s, enum work first, enum work second, double amount,
                           double *rate, struct error *error)
{
    double a, b;
    enum status status = work_time(s, first, &a, error);
    if (status == STATUS_OK)
        status = work_time(s, second, &b, error);
    if (status == STATUS_OK)
        *rate = amount / (a < b ? a : b);
    return status;
}

enum status gpu_ceilings_measure(int device, struct gpu_ceilings *ceilings, struct error *error)
{
    enum status status = STATUS_OK;
    struct bench s;
    size_t available, total;
    const double flops = 2.0 * MATRIX_SIZE * MATRIX_SIZE * MATRIX_SIZE;
    memset(&s, 0, sizeof s);
    memset(ceilings, 0, sizeof *ceilings);
    CHECK(cudaSetDevice(device));
    CHECK(cudaMemGetInfo(&available, &total));
    s.bytes = COPY_BYTES;
    while (s.bytes > ((size_t)64 << 20) && 2 * s.bytes > available / 10 * 9)
        s.bytes /= 2;
    CHECK(cudaEventCreate(&s.start));
    CHECK(cudaEventCreate(&s.stop));
    CHECK(cudaMalloc(&s.a, s.bytes));
    CHECK(cudaMalloc(&s.b, s.bytes));
    random_fill_kernel<<<4096, 256>>>(s.a, (int64_t)(s.bytes / sizeof(float)), 1u);
    CHECK_LAUNCH("random_fill_kernel");
    status = best_of(&s, WORK_MEMCPY, WORK_COPY, 2e-9 * (double)s.bytes,
                     &ceilings->copy_gbytes_per_s, error);
    if (status != STATUS_OK)
        goto out;
    status = best_of(&s, WORK_MEMSET, WORK_WRITE, 1e-9 * (double)s.bytes,
                     &ceilings->write_gbytes_per_s, error);
    if (status != STATUS_OK)
        goto out;

    if (s.bytes < (size_t)2 * MATRIX_SIZE * MATRIX_SIZE * sizeof(float)) {
        snprintf(ceilings->cublas, sizeof ceilings->cublas, "too little device memory is free");
        goto out;
    }
    if (!cublas_load(&s.blas, ceilings->cublas, sizeof ceilings->cublas))
        goto out;
    if (s.blas.create(&s.handle) != 0) {
        snprintf(ceilings->cublas, sizeof ceilings->cublas, "cublasCreate failed");
        s.handle = NULL;
        goto out;
    }
    {
        int version = 0;
        double seconds;
        s.blas.version(s.handle, &version);
        snprintf(ceilings->cublas, sizeof ceilings->cublas, "%d.%d.%d", version / 10000,
                 version / 100 % 100, version % 100);
        const int64_t elements = 2ll * MATRIX_SIZE * MATRIX_SIZE;
        random_fill_kernel<<<4096, 256>>>((__half *)s.a, elements, 2u);
        random_fill_kernel<<<4096, 256>>>((__half *)s.b, elements, 3u);
        CHECK_LAUNCH("random_fill_kernel");
        if ((status = work_time(&s, WORK_FP16, &seconds, error)) != STATUS_OK)
            goto out;
        ceilings->fp16_tflops = seconds > 0.0 ? 1e-12 * flops / seconds : 0.0;
        random_fill_kernel<<<4096, 256>>>(s.a, elements / 2, 4u);
        random_fill_kernel<<<4096, 256>>>(s.b, elements / 2, 5u);
        CHECK_LAUNCH("random_fill_kernel");
        if ((status = work_time(&s, WORK_TF32, &seconds, error)) != STATUS_OK)
            goto out;
        ceilings->tf32_tflops = seconds > 0.0 ? 1e-12 * flops / seconds : 0.0;
        if ((status = work_time(&s, WORK_FP32, &seconds, error)) != STATUS_OK)
            goto out;
        ceilings->fp32_tflops = seconds > 0.0 ? 1e-12 * flops / seconds : 0.0;
    }
out:
    if (s.handle)
        s.blas.destroy(s.handle);
    cudaFree(s.b);
    cudaFree(s.a);
    if (s.stop)
        cudaEventDestroy(s.stop);
    if (s.start)
        cudaEventDestroy(s.start);
    if (status != STATUS_OK)
        error_prefix(error, "measuring the ceilings of device %d", device);
    return status;
}

double gpu_floor(const struct problem *problem, int64_t images, const struct gpu_variant *variant,
                 const struct gpu_ceilings *ceilings, const char **bound_by)
{
    struct problem p = *problem;
    const double rate = variant->unit == GPU_UNIT_FP16   ? ceilings->fp16_tflops
                        : variant->unit == GPU_UNIT_TF32 ? ceilings->tf32_tflops
                                                         : ceilings->fp32_tflops;
    p.batch = images;
    *bound_by = "";
    if (ceilings->copy_gbytes_per_s <= 0.0)
        return 0.0;
    const double bytes_s = 1e-9 * problem_bytes(&p) / ceilings->copy_gbytes_per_s;
    const double flops_s = rate > 0.0 ? 1e-12 * variant->passes * problem_flops(&p) / rate : 0.0;
    *bound_by = bytes_s >= flops_s ? "bytes" : variant->unit == GPU_UNIT_FP32 ? "fp32" : "tensor";
    return bytes_s > flops_s ? bytes_s : flops_s;
}
