/* Hopper kernels on the CPU: what CUDA C++ and gpu/wgmma.cuh give a kernel, for g++.
 *
 * A kernel's source is compiled as it stands, with tests/emulator/include before the repository on
 * the include path: the headers there take the places of CUDA's and of gpu/'s primitives. A thread
 * is a fiber. Warps run in random order and at speeds that change; lanes of a warp run one after
 * the other until they wait. What is asynchronous on the device happens at a random time: copies,
 * remote stores and arrivals, and matrix products only when they are waited for. So orders that a
 * device never showed are met, and a wait that is missing is found.
 *
 * Found too, with a line and exit status 3: deadlocks, more arrivals than a barrier counts, shared
 * addresses outside a block's memory or in that of one that has ended, misaligned copies, lanes of
 * a warpgroup that give different operands. Device and shared memory begin as NaN. Not found:
 * fences that are missing, and speed.
 *
 * Exponentials and reciprocals are the C library's: results differ from a device's by an ulp or
 * two. One cluster runs at a time, in one thread of the operating system. */
#ifndef ASSAY_TESTS_EMULATOR_DEVICE_HPP
#define ASSAY_TESTS_EMULATOR_DEVICE_HPP

/* The standard headers first: they use some of the names below. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __shared__ static /* one block at a time has them */
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 900
#define __CUDA_ARCH_FEAT_SM90_ALL 1

using std::max;
using std::min;
static inline uint32_t min(uint32_t a, int b)
{
    return std::min(a, (uint32_t)b);
}

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct uint4 {
    uint32_t x, y, z, w;
};
struct int4 {
    int x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return {x, y, z, w};
}

static inline int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}

/* ---- the calling fiber ---------------------------------------------------------------------- */

struct emulated_place {
    int thread, threads;  /* threadIdx.x, blockDim.x */
    int block, block_y;   /* blockIdx */
    int blocks, blocks_y; /* gridDim */
    int rank;             /* in the cluster */
};

const struct emulated_place &emulated_here(void);

/* One of those numbers, read where it is used. */
template <int emulated_place::*which>
struct emulated_number {
    operator int() const
    {
        return emulated_here().*which;
    }
};
static const struct {
    emulated_number<&emulated_place::thread> x;
} threadIdx = {};
static const struct {
    emulated_number<&emulated_place::threads> x;
} blockDim = {};
static const struct {
    emulated_number<&emulated_place::block> x;
    emulated_number<&emulated_place::block_y> y;
} blockIdx = {};
static const struct {
    emulated_number<&emulated_place::blocks> x;
    emulated_number<&emulated_place::blocks_y> y;
} gridDim = {};

/* Lets others run. */
void emulated_yield(void);
/* Whether now and then a test fails that could pass. */
bool emulated_chance(void);
[[noreturn]] void emulated_failure(const char *what, long a = 0, long b = 0);
/* Does `work` at some later time. */
void emulated_later(std::function<void()> work);

/* The memory at a shared address, rank << 20 | offset. */
uint8_t *emulated_shared(uint32_t address, uint32_t bytes);
uint8_t *emulated_block_shared(void);
uint32_t emulated_shared_address(const void *pointer);

/* Waits for all 32 lanes; what each gave. */
const uint64_t *emulated_exchange(uint64_t value);
/* Waits for `threads` threads of the block; whether one gave true. Or for all of the cluster. */
bool emulated_barrier(int number, int threads, bool mine = false);
void emulated_cluster_barrier(void);

/* ---- launches: a kernel's clusters, one after the other -------------------------------------- */

struct emulated_launch {
    int blocks, blocks_y, threads, cluster;
    uint32_t shared_bytes;
};
void emulated_run(const struct emulated_launch &launch, const std::function<void()> &kernel);

/* The order of everything that follows. */
void emulated_seed(unsigned seed);

/* ---- CUDA's intrinsics ------------------------------------------------------------------------
 */

template <class T>
static inline T __shfl_sync(unsigned, T value, int from)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = emulated_exchange(bits)[from & 31];
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes)
{
    return __shfl_sync(mask, value, (emulated_here().thread & 31) ^ lanes);
}

static inline void __syncwarp(void)
{
    emulated_exchange(0);
}

static inline void __syncthreads(void)
{
    emulated_barrier(0, emulated_here().threads);
}

static inline int __syncthreads_or(int value)
{
    return emulated_barrier(0, emulated_here().threads, value != 0);
}

/* Masks are those of lanes that agree: all 32 come here. */
static inline uint32_t __reduce_max_sync(unsigned mask, uint32_t value)
{
    const uint64_t *const all = emulated_exchange(value);
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1)
            value = std::max(value, (uint32_t)all[lane]);
    return value;
}

static inline unsigned __match_any_sync(unsigned mask, uint32_t value)
{
    const uint64_t *const all = emulated_exchange(value);
    unsigned same = 0;
    for (int lane = 0; lane < 32; lane++)
        same |= (unsigned)((uint32_t)all[lane] == value) << lane;
    return same & mask;
}

static inline int __ffs(unsigned bits)
{
    return __builtin_ffs((int)bits);
}

static inline unsigned __ballot_sync(unsigned mask, bool value)
{
    const uint64_t *const all = emulated_exchange(value);
    unsigned set = 0;
    for (int lane = 0; lane < 32; lane++)
        set |= (unsigned)(all[lane] != 0) << lane;
    return set & mask;
}

static inline bool __all_sync(unsigned mask, bool value)
{
    return __ballot_sync(mask, value) == mask;
}

static inline uint32_t __float_as_uint(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

template <class T>
static inline T __ldg(const T *from)
{
    return *from;
}

template <class T>
static inline T __ldcg(const T *from)
{
    return *from;
}

static inline uint32_t atomicMax(uint32_t *to, uint32_t value)
{
    const uint32_t old = *to;
    *to = std::max(old, value);
    return old;
}

static inline uint32_t atomicAdd(uint32_t *to, uint32_t value)
{
    const uint32_t old = *to;
    *to += value;
    return old;
}

static inline void __threadfence(void)
{
}
static inline void cudaGridDependencySynchronize(void)
{
}

#endif
