#include "ref/ceiling.h"

#include <cblas.h>
#include <omp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ref/blas_threads.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/* Orders of a thread's product. One that is no power of two, too: on a Zen 4 OpenBLAS 0.3.21 was 4
 * to 10 % faster there, 768 against 1024. */
static const size_t orders[] = {768, 1024};
#define REPEATS 4
#define STREAM_BYTES ((size_t)256 << 20)

static double best_of(double a, double b)
{
    return a > b ? a : b;
}

static void fill(float *a, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        a[i] = (float)(state >> 8) * 0x1p-24f - 0.5f;
    }
}

/* One product of order n in every thread at once, as the reference's strips run. */
static double gemm_in_threads(int threads, size_t n, bool is_double)
{
    const size_t size = is_double ? sizeof(double) : sizeof(float);
    const blasint order = (blasint)n;
    double best = 0.0;
    blas_set_threads(1);
    char *memory = malloc((size_t)threads * 3 * n * n * size);
    if (!memory)
        return 0.0;
    for (size_t i = 0; i < (size_t)threads * 3; i++) {
        char *matrix = memory + i * n * n * size;
        if (is_double)
            for (size_t j = 0; j < n * n; j++)
                ((double *)(void *)matrix)[j] = (double)(j * 2654435761u % 1000) * 1e-3 - 0.5;
        else
            fill((float *)(void *)matrix, n * n);
    }
    for (int r = 0; r < REPEATS; r++) {
        const double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            char *a = memory + (size_t)omp_get_thread_num() * 3 * n * n * size;
            char *b = a + n * n * size, *c = b + n * n * size;
            if (is_double)
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, order, order, order, 1.0,
                            (void *)a, order, (void *)b, order, 0.0, (void *)c, order);
            else
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, order, order, order, 1.0f,
                            (void *)a, order, (void *)b, order, 0.0f, (void *)c, order);
        }
        best =
            best_of(best, 2.0 * (double)(n * n * n) * threads / (omp_get_wtime() - start) * 1e-9);
    }
    free(memory);
    return best;
}

/* One product on OpenBLAS's own threads. */
static double sgemm_by_library(int threads)
{
    const size_t n = 2048;
    double best = 0.0;
    float *a = malloc(3 * n * n * sizeof *a);
    if (!a)
        return 0.0;
    fill(a, 3 * n * n);
    blas_set_threads(threads);
    for (int r = 0; r < REPEATS; r++) {
        const double start = omp_get_wtime();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, (blasint)n, (blasint)n,
                    1.0f, a, (blasint)n, a + n * n, (blasint)n, 0.0f, a + 2 * n * n, (blasint)n);
        best = best_of(best, 2.0 * (double)(n * n * n) / (omp_get_wtime() - start) * 1e-9);
    }
    blas_set_threads(1);
    free(a);
    return best;
}

static void stream_write(float *to, size_t n, float value)
{
#if defined(__x86_64__)
    const __m128 v = _mm_set1_ps(value);
    for (size_t i = 0; i < n; i += 4)
        _mm_stream_ps(to + i, v);
    _mm_sfence();
#else
    for (size_t i = 0; i < n; i++)
        to[i] = value;
#endif
}

static void stream_copy(float *to, const float *from, size_t n)
{
#if defined(__x86_64__)
    for (size_t i = 0; i < n; i += 4)
        _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
    _mm_sfence();
#else
    memcpy(to, from, n * sizeof *to);
#endif
}

static void memory_rates(int threads, struct cpu_ceilings *ceilings)
{
    const size_t n = STREAM_BYTES / sizeof(float), part = n / (size_t)threads / 16 * 16;
    float *a = aligned_alloc(64, STREAM_BYTES), *b = aligned_alloc(64, STREAM_BYTES);
    for (int r = 0; a && b && r < REPEATS + 1; r++) { /* the first round takes the page faults */
        const double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        stream_write(a + part * (size_t)omp_get_thread_num(), part, 1.0f);
        const double middle = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        stream_copy(b + part * (size_t)omp_get_thread_num(),
                    a + part * (size_t)omp_get_thread_num(), part);
        const double end = omp_get_wtime(),
                     bytes = (double)(part * (size_t)threads) * sizeof(float);
        if (r > 0) {
            ceilings->write_gbytes_per_s =
                best_of(ceilings->write_gbytes_per_s, bytes / (middle - start) * 1e-9);
            ceilings->copy_gbytes_per_s =
                best_of(ceilings->copy_gbytes_per_s, 2.0 * bytes / (end - middle) * 1e-9);
        }
    }
    free(a);
    free(b);
}

void cpu_ceilings_measure(int threads, struct cpu_ceilings *ceilings)
{
    const int callers = omp_get_max_threads();
    *ceilings = (struct cpu_ceilings){0};
    omp_set_num_threads(threads); /* what an OpenBLAS built on OpenMP takes */
    ceilings->sgemm_gflops = sgemm_by_library(threads);
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        ceilings->sgemm_gflops =
            best_of(ceilings->sgemm_gflops, gemm_in_threads(threads, orders[i], false));
        ceilings->dgemm_gflops =
            best_of(ceilings->dgemm_gflops, gemm_in_threads(threads, orders[i], true));
    }
    memory_rates(threads, ceilings);
    omp_set_num_threads(callers);
}

const char *blas_description(void)
{
    return openblas_get_config();
}
