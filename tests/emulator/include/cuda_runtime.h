/* The CUDA runtime of the emulator (tests/emulator/device.hpp): memory is the host's, a launch runs
 * before it returns. */
#ifndef ASSAY_TESTS_EMULATOR_CUDA_RUNTIME_H
#define ASSAY_TESTS_EMULATOR_CUDA_RUNTIME_H

#include "tests/emulator/device.hpp"

typedef enum { cudaSuccess, cudaErrorMemoryAllocation } cudaError_t;
typedef void *cudaStream_t;
typedef enum {
    cudaFuncAttributeMaxDynamicSharedMemorySize,
    cudaFuncAttributePreferredSharedMemoryCarveout,
} cudaFuncAttribute;
typedef enum {
    cudaLaunchAttributeClusterDimension,
    cudaLaunchAttributeProgrammaticStreamSerialization,
} cudaLaunchAttributeID;

struct cudaDeviceProp {
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin;
};

struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        struct dim3 clusterDim;
        int programmaticStreamSerializationAllowed;
    } val;
};

struct cudaLaunchConfig_t {
    struct dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    struct cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

/* Ends at a page that cannot be touched, to within 256 bytes. */
cudaError_t emulated_malloc(void **pointer, size_t bytes);
template <class T>
static inline cudaError_t cudaMalloc(T **pointer, size_t bytes)
{
    return emulated_malloc((void **)pointer, bytes);
}
cudaError_t cudaFree(void *pointer);

static inline cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
    memset(to, byte, bytes);
    return cudaSuccess;
}

static inline cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

static inline cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

static inline const char *cudaGetErrorName(cudaError_t)
{
    return "cudaErrorMemoryAllocation";
}

static inline const char *cudaGetErrorString(cudaError_t)
{
    return "out of memory";
}

template <class Kernel>
static inline cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

template <class... Parameters, class... Arguments>
static inline cudaError_t cudaLaunchKernelEx(const struct cudaLaunchConfig_t *config,
                                             void (*kernel)(Parameters...), Arguments... arguments)
{
    struct emulated_launch launch = {(int)config->gridDim.x, (int)config->gridDim.y,
                                     (int)config->blockDim.x, 1,
                                     (uint32_t)config->dynamicSmemBytes};
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
            launch.cluster = (int)config->attrs[i].val.clusterDim.x;
    const std::tuple<Parameters...> all(arguments...);
    emulated_run(launch, [&] { std::apply(kernel, all); });
    return cudaSuccess;
}

/* A multiprocessor holds one block. */
extern int emulated_multiprocessors;
template <class Kernel>
static inline cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, Kernel,
                                                         const struct cudaLaunchConfig_t *config)
{
    *clusters = emulated_multiprocessors / (int)config->gridDim.x;
    return cudaSuccess;
}

#endif
