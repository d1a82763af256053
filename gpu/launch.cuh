/* Launches by function call, which any C++ compiler reads: the host side of these kernels is
 * compiled for the CPU, too (tests/emulator/), where <<<>>> is not known (internal to gpu/). */
#ifndef ASSAY_GPU_LAUNCH_CUH
#define ASSAY_GPU_LAUNCH_CUH

#include <cuda_runtime.h>
#include <stdint.h>

/* A grid of blocks. */
template <class... Parameters, class... Arguments>
static cudaError_t launch_blocks(void (*kernel)(Parameters...), int blocks, int threads,
                                 Arguments... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

/* A grid of clusters of `cluster` blocks; the configuration refers to `attribute`. */
static inline cudaLaunchConfig_t cluster_config(int cluster, int blocks, int threads,
                                                uint32_t shared_bytes,
                                                cudaLaunchAttribute *attribute)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = cluster;
    attribute->val.clusterDim.y = 1;
    attribute->val.clusterDim.z = 1;
    config.attrs = attribute;
    config.numAttrs = 1;
    return config;
}

template <class Args>
static cudaError_t launch_clusters(void (*kernel)(const Args), int cluster, int blocks, int threads,
                                   uint32_t shared_bytes, cudaStream_t stream, const Args &args)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = cluster_config(cluster, blocks, threads, shared_bytes, &attribute);
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, args);
}

#endif
