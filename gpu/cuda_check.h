/* Checked CUDA calls (internal to gpu/).
 *
 *     CHECK(cudaMalloc(&pointer, size));     in a function with `status`, `error` and `out:`
 *     CHECK_LAUNCH("softmax_kernel");        after every <<<>>>
 *
 * Both leave the call, CUDA's name for the error and its text in `error` and go to `out`; the
 * runtime puts the variant and the problem before it. */
#ifndef ASSAY_GPU_CUDA_CHECK_H
#define ASSAY_GPU_CUDA_CHECK_H

#include <cuda_runtime.h>

#include "ref/status.h"

static inline enum status cuda_check(cudaError_t code, const char *call, struct error *error)
{
    if (code == cudaSuccess)
        return STATUS_OK;
    cudaGetLastError(); /* errors that are not sticky end here */
    return error_set(error, STATUS_ENVIRONMENT, "'%.120s' failed: %s (%s)%s", call,
                     cudaGetErrorString(code), cudaGetErrorName(code),
                     code == cudaErrorMemoryAllocation ? "; free device memory, or ask for less"
                                                       : "");
}

#define CHECK(call)                                                                                \
    do {                                                                                           \
        if ((status = cuda_check((call), #call, error)) != STATUS_OK)                              \
            goto out;                                                                              \
    } while (0)

#define CHECK_LAUNCH(kernel)                                                                       \
    do {                                                                                           \
        if ((status = cuda_check(cudaGetLastError(), "launch of " kernel, error)) != STATUS_OK)    \
            goto out;                                                                              \
    } while (0)

#endif
