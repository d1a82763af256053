/* Kernels that start while the one before them in the stream still runs (internal to gpu/). Source:
 * PTX ISA, "griddepcontrol"; below sm_90 launches are in order anyway. */
#ifndef ASSAY_GPU_DEPENDENT_LAUNCH_CUH
#define ASSAY_GPU_DEPENDENT_LAUNCH_CUH

static __device__ __forceinline__ void dependents_may_launch(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

static __device__ __forceinline__ void wait_for_prerequisites(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#endif
