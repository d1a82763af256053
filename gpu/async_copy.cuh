/* Small asynchronous copies from device to shared memory, cp.async (internal to gpu/). */
#ifndef ASSAY_GPU_ASYNC_COPY_CUH
#define ASSAY_GPU_ASYNC_COPY_CUH

#include <stdint.h>

/* The first `bytes` (0 or 16) of 16 come from `source`, the rest are zeros. Through L1, where taps
 * find each other's pixels. */
static __device__ __forceinline__ void copy_16(uint32_t destination, const void *source,
                                               uint32_t bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(destination), "l"(source),
                 "r"(bytes)
                 : "memory");
}

/* The same of 4 bytes. */
static __device__ __forceinline__ void copy_4(uint32_t destination, const void *source,
                                              uint32_t bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(destination), "l"(source),
                 "r"(bytes)
                 : "memory");
}

/* Arrives at the barrier once this thread's copies so far have landed; the arrival is one of those
 * that the barrier was initialised for. */
static __device__ __forceinline__ void copy_arrive(uint32_t barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

/* Returns once all of this thread's copies have landed; it alone sees them then. */
static __device__ __forceinline__ void copy_wait_all(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

#endif
