/* gpu/wgmma.cuh of the emulator (tests/emulator/device.hpp): the same names, shapes and meanings.
 */
#ifndef ASSAY_GPU_WGMMA_CUH
#define ASSAY_GPU_WGMMA_CUH

#include "tests/emulator/device.hpp"

#define BLOCK_SHARED(name) uint8_t *const name = emulated_block_shared()

constexpr int kWarpArrivals = 1;

/* The block's barriers; gpu/wgmma.cuh tells what each function is. */
void barrier_init(uint32_t barrier, uint32_t arrivals);
void barrier_expect(uint32_t barrier, uint32_t bytes);
bool barrier_test(uint32_t barrier, uint32_t parity);
void barrier_wait(uint32_t barrier, uint32_t parity);
/* Bytes that barrier_expect() announced are there. */
void emulated_complete(uint32_t barrier, uint32_t bytes);

/* The warpgroup's products, in the order given, once all its threads wait. */
void emulated_product(float *d, int columns, uint64_t a, uint64_t b, bool start);
void emulated_products_commit(void);
void emulated_products_wait(int pending);

void bulk_load(uint32_t destination, const void *source, uint32_t bytes, uint32_t barrier);
void bulk_store(void *destination, uint32_t source, uint32_t bytes);
void bulk_store_commit(void);
void emulated_bulk_store_wait(int pending);

static inline int lane_here(void)
{
    return emulated_here().thread & 31;
}

static inline uint32_t shared_address(const void *pointer)
{
    return emulated_shared_address(pointer);
}

template <class T>
static inline T emulated_load(uint32_t from)
{
    T value;
    memcpy(&value, emulated_shared(from, sizeof value), sizeof value);
    return value;
}

static inline void shared_store(uint32_t to, uint32_t v)
{
    memcpy(emulated_shared(to, sizeof v), &v, sizeof v);
}

static inline void shared_store(uint32_t to, const uint32_t (&v)[4])
{
    memcpy(emulated_shared(to, sizeof v), v, sizeof v);
}

static inline uint32_t shared_load(uint32_t from)
{
    return emulated_load<uint32_t>(from);
}

static inline float2 shared_load2(uint32_t from)
{
    return emulated_load<float2>(from);
}

static inline float4 shared_load4(uint32_t from)
{
    return emulated_load<float4>(from);
}

static inline float4 global_load4(const float *from)
{
    if ((uintptr_t)from & 15)
        emulated_failure("a load of 16 bytes is not aligned");
    return *(const float4 *)from;
}

/* Reads, so that what is outside an allocation is found. */
static inline void prefetch_l2(const float *from)
{
    (void)*(const volatile float *)from;
}

static inline float load_next(const float *&from, int64_t step, bool on)
{
    const float v = on ? *from : 0.0f;
    from = (const float *)((const char *)from + step);
    return v;
}

static inline void store_if(float *to, float v, bool on)
{
    if (on)
        *to = v;
}

static inline void register_keep(float &)
{
}

static inline void named_barrier(int number, int threads)
{
    emulated_barrier(number, threads);
}

template <int kNumber, int kThreads>
static inline void named_barrier(void)
{
    emulated_barrier(kNumber, kThreads);
}

template <int kNumber, int kThreads>
static inline bool named_barrier_any(bool mine)
{
    return emulated_barrier(kNumber, kThreads, mine);
}

static inline uint64_t wgmma_descriptor(uint32_t address, uint32_t k_stride, uint32_t row_stride)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(k_stride >> 4) << 16 |
           (uint64_t)(row_stride >> 4) << 32;
}

static inline void wgmma_fence(void)
{
}

static inline void wgmma_commit(void)
{
    emulated_products_commit();
}

template <int kPending>
static inline void wgmma_wait(void)
{
    emulated_products_wait(kPending);
}

template <int kColumns>
struct wgmma {
    static void start(float (&d)[kColumns / 2], uint64_t a, uint64_t b)
    {
        emulated_product(d, kColumns, a, b, true);
    }
    static void run(float (&d)[kColumns / 2], uint64_t a, uint64_t b, int accumulate = 1)
    {
        emulated_product(d, kColumns, a, b, !accumulate);
    }
};

static inline void fence_proxy_async(void)
{
}
static inline void fence_proxy_async_global(void)
{
}
static inline void barrier_init_fence(void)
{
}

static inline void barrier_arrive(uint32_t barrier)
{
    barrier_expect(barrier, 0);
}

static inline void barrier_expect_warp(uint32_t barrier, uint32_t bytes)
{
    __syncwarp();
    if (lane_here() == 0)
        barrier_expect(barrier, bytes);
}

static inline void barrier_arrive_warp(uint32_t barrier)
{
    barrier_expect_warp(barrier, 0);
}

template <int kPending>
static inline void bulk_store_wait_read(void)
{
    emulated_bulk_store_wait(kPending);
}

static inline void cluster_sync(void)
{
    emulated_cluster_barrier();
}

static inline void cluster_sync_aligned(void)
{
    emulated_cluster_barrier();
}

static inline uint32_t cluster_rank(void)
{
    return (uint32_t)emulated_here().rank;
}

static inline uint32_t cluster_map(uint32_t address, uint32_t rank)
{
    return rank << 20 | (address & 0xfffff);
}

static inline void cluster_arrive_warp(uint32_t barrier)
{
    __syncwarp();
    if (lane_here() == 0)
        emulated_later([=] { barrier_expect(barrier, 0); });
}

template <class T>
static inline void emulated_store_async(uint32_t address, T v, uint32_t barrier)
{
    emulated_later([=] {
        memcpy(emulated_shared(address, sizeof v), &v, sizeof v);
        emulated_complete(barrier, sizeof v);
    });
}

static inline void cluster_store_async(uint32_t address, uint32_t v, uint32_t barrier)
{
    emulated_store_async(address, v, barrier);
}

static inline void cluster_store_async(uint32_t address, float2 v, uint32_t barrier)
{
    emulated_store_async(address, v, barrier);
}

static inline void cluster_copy(uint32_t address, uint32_t source, uint32_t bytes, uint32_t barrier)
{
    if ((address | source | bytes) & 15)
        emulated_failure("a copy between blocks is not aligned");
    emulated_later([=] {
        memcpy(emulated_shared(address, bytes), emulated_shared(source, bytes), bytes);
        emulated_complete(barrier, bytes);
    });
}

static inline void cluster_store(uint32_t address, float2 v)
{
    memcpy(emulated_shared(address, sizeof v), &v, sizeof v);
}

#endif
