/* What the tensor-core kernels need of a device (internal to gpu/). */
#ifndef ASSAY_GPU_HOPPER_CUH
#define ASSAY_GPU_HOPPER_CUH

#include <cuda_runtime.h>
#include <stdint.h>

constexpr uint32_t kSharedBytes = 227 * 1024; /* that a block may have */

/* Why the device can't run these kernels, or NULL. */
static inline const char *hopper_refusal(const struct cudaDeviceProp *device)
{
    if (device->major != 9 || device->minor != 0)
        return "needs a Hopper GPU (compute capability 9.0)";
    if (device->sharedMemPerBlockOptin < kSharedBytes)
        return "needs 227 KiB of shared memory in a block";
    return NULL;
}

#endif
