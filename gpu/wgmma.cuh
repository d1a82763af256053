/* Hopper's warpgroup matrix instruction and what goes with it: loads and stores that stay where
 * they stand, fences, barriers, bulk copies, clusters (internal to gpu/; sm_90a). All assembly of
 * the kernels that use it, so that tests/emulator/ can put other functions in its place.
 *
 *     d[64, N] += a[64, 16] * b[16, N]      a, b fp16 in shared memory, d fp32 in registers
 *
 * Both operands are K-major without swizzle: a core matrix is 8 rows (pixels of a, columns of d for
 * b) of 8 consecutive k, 16 bytes a row, 128 contiguous bytes. Core matrices that follow each other
 * along the rows lie `row_stride` bytes apart, the two along k `k_stride` bytes apart. Without
 * swizzle an operand may start at any multiple of 16 bytes: that is what makes a shift by one pixel
 * an addition to the descriptor.
 *
 * d in registers: warp w of the warpgroup holds rows 16w .. 16w + 15; lane l holds, for every
 * j < N / 8, with g = l / 4 and t = l % 4,
 *
 *     d[4j], d[4j + 1]        row 16w + g,     columns 8j + 2t, 8j + 2t + 1
 *     d[4j + 2], d[4j + 3]    row 16w + g + 8, the same columns
 *
 * Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". */
#ifndef ASSAY_GPU_WGMMA_CUH
#define ASSAY_GPU_WGMMA_CUH

#include <stdint.h>

/* The thread's place in its warp, read where it stands: a compiler short of registers keeps no
 * copy.
 */
static __device__ __forceinline__ int lane_here(void)
{
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

static __device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* Declares the block's dynamic shared memory, uint8_t name[]. */
#define BLOCK_SHARED(name) extern __shared__ __align__(128) uint8_t name[]

/* Accesses to shared memory where they stand, in the order written. */
static __device__ __forceinline__ void shared_store(uint32_t to, uint32_t v)
{
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(v) : "memory");
}

static __device__ __forceinline__ void shared_store(uint32_t to, const uint32_t (&v)[4])
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                 "r"(v[2]), "r"(v[3])
                 : "memory");
}

static __device__ __forceinline__ uint32_t shared_load(uint32_t from)
{
    uint32_t v;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}

static __device__ __forceinline__ float2 shared_load2(uint32_t from)
{
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
    return v;
}

static __device__ __forceinline__ float4 shared_load4(uint32_t from)
{
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}

/* A load of what no one writes meanwhile, issued where it stands. */
static __device__ __forceinline__ float4 global_load4(const float *from)
{
    float4 v;
    asm volatile("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(from));
    return v;
}

/* *from where `on`, else 0; then from moves by `step` bytes. Volatile, so that loads are issued in
 * the order written and none waits for another's registers. */
static __device__ __forceinline__ float load_next(const float *&from, int64_t step, bool on)
{
    float v;
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\nmov.f32 %0, 0f00000000;\n"
                 "@p ld.global.nc.f32 %0, [%1];\nadd.s64 %1, %1, %2;\n}\n"
                 : "=f"(v), "+l"(from)
                 : "l"(step), "r"((int)on));
    return v;
}

static __device__ __forceinline__ void store_if(float *to, float v, bool on)
{
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}\n" ::"l"(to),
        "f"(v), "r"((int)on)
        : "memory");
}

static __device__ __forceinline__ void prefetch_l2(const float *from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/* Nothing reads v before this stands, in the compiler's order too. */
static __device__ __forceinline__ void register_keep(float &v)
{
    asm volatile("" : "+f"(v)::"memory");
}

/* A barrier of `threads` threads of the block; 0 is __syncthreads(). */
static __device__ __forceinline__ void named_barrier(int number, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* The same, with numbers that are known. */
template <int kNumber, int kThreads>
static __device__ __forceinline__ void named_barrier(void)
{
    asm volatile("bar.sync %0, %1;" ::"n"(kNumber), "n"(kThreads) : "memory");
}

/* And true in all of them where it is in one. */
template <int kNumber, int kThreads>
static __device__ __forceinline__ bool named_barrier_any(bool mine)
{
    int any;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.b32 p, %1, 0;\n"
                 "bar.red.or.pred q, %2, %3, p;\nselp.b32 %0, 1, 0, q;\n}\n"
                 : "=r"(any)
                 : "r"((int)mine), "n"(kNumber), "n"(kThreads)
                 : "memory");
    return any != 0;
}

/* Addresses and strides are multiples of 16.
 * NOTE: in a cluster a shared address carries the block's rank above bit 23; unmasked, it would run
 * into the stride's field. */
static __device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t address, uint32_t k_stride,
                                                            uint32_t row_stride)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(k_stride >> 4) << 16 |
           (uint64_t)(row_stride >> 4) << 32;
}

/* Before the first wgmma that touches registers which ordinary code wrote. */
static __device__ __forceinline__ void wgmma_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending>
static __device__ __forceinline__ void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/* Ordinary stores to shared memory become visible to wgmma and to bulk copies. */
static __device__ __forceinline__ void fence_proxy_async(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Ordinary stores to device memory become visible to bulk copies. */
static __device__ __forceinline__ void fence_proxy_async_global(void)
{
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

/* The instruction, one specialisation for each N in use: start() sets d, run() adds to it or, with
 * `accumulate` = 0, sets it too. To the compiler start() alone does not read d: a kernel that
 * begins with it need not keep d's registers until there. */
template <int kColumns>
struct wgmma;

#define WGMMA_D8(how, i)                                                                           \
    how(d[i]), how(d[i + 1]), how(d[i + 2]), how(d[i + 3]), how(d[i + 4]), how(d[i + 5]),          \
        how(d[i + 6]), how(d[i + 7])
#define WGMMA_D16(how, i) WGMMA_D8(how, i), WGMMA_D8(how, i + 8)
#define WGMMA_D32(how, i) WGMMA_D16(how, i), WGMMA_D16(how, i + 16)
#define WGMMA_D64(how, i) WGMMA_D32(how, i), WGMMA_D32(how, i + 32)
#define WGMMA_D96(how, i) WGMMA_D64(how, i), WGMMA_D32(how, i + 64)
#define WGMMA_D128(how, i) WGMMA_D64(how, i), WGMMA_D64(how, i + 64)

#define WGMMA_R8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define WGMMA_R16 WGMMA_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_R32 WGMMA_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_R64                                                                                  \
    WGMMA_R32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,"      \
              "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define WGMMA_R96                                                                                  \
    WGMMA_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,"      \
              "%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define WGMMA_R128                                                                                 \
    WGMMA_R96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"      \
              "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,"        \
              "%127"

#define WGMMA_SET(x) "=f"(x)
#define WGMMA_ADD(x) "+f"(x)

#define WGMMA_ISSUE(columns, registers, a, b, d, predicate, ...)                                   \
    asm volatile("{\n.reg .pred p;\n" predicate ";\nwgmma.mma_async.sync.aligned.m64n" #columns    \
                 "k16.f32.f16.f16 {" registers "}, " a ", " b ", p, 1, 1, 0, 0;\n}\n"              \
                 : d                                                                               \
                 : "l"(desc_a), "l"(desc_b)__VA_ARGS__)

#define WGMMA_DEFINE(columns, registers, a, b, flag, d_list)                                       \
    template <>                                                                                    \
    struct wgmma<columns> {                                                                        \
        static __device__ __forceinline__ void start(float (&d)[columns / 2], uint64_t desc_a,     \
                                                     uint64_t desc_b)                              \
        {                                                                                          \
            WGMMA_ISSUE(columns, registers, a, b, d_list(WGMMA_SET, 0), "setp.ne.b32 p, 0, 0");    \
        }                                                                                          \
        static __device__ __forceinline__ void run(float (&d)[columns / 2], uint64_t desc_a,       \
                                                   uint64_t desc_b)                                \
        {                                                                                          \
            WGMMA_ISSUE(columns, registers, a, b, d_list(WGMMA_ADD, 0), "setp.eq.b32 p, 0, 0");    \
        }                                                                                          \
        static __device__ __forceinline__ void run(float (&d)[columns / 2], uint64_t desc_a,       \
                                                   uint64_t desc_b, int accumulate)                \
        {                                                                                          \
            WGMMA_ISSUE(columns, registers, a, b, d_list(WGMMA_ADD, 0),                            \
                        "setp.ne.b32 p, " flag ", 0", , "r"(accumulate));                          \
        }                                                                                          \
    }

WGMMA_DEFINE(16, WGMMA_R8, "%8", "%9", "%10", WGMMA_D8);
WGMMA_DEFINE(32, WGMMA_R16, "%16", "%17", "%18", WGMMA_D16);
WGMMA_DEFINE(64, WGMMA_R32, "%32", "%33", "%34", WGMMA_D32);
WGMMA_DEFINE(128, WGMMA_R64, "%64", "%65", "%66", WGMMA_D64);
WGMMA_DEFINE(192, WGMMA_R96, "%96", "%97", "%98", WGMMA_D96);
WGMMA_DEFINE(256, WGMMA_R128, "%128", "%129", "%130", WGMMA_D128);

/* ---- barriers in shared memory -------------------------------------------------------------- */

static __device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/* What barrier_init() did is seen by the other blocks of the cluster; by copies after
 * fence_proxy_async(). */
static __device__ __forceinline__ void barrier_init_fence(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void barrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* For a whole warp, whose memory accesses so far it orders: one of its lanes arrives.
 * compute-sanitizer's racecheck orders only what threads did that arrive themselves: for it
 * (make sanitize-gpu) all of them do. */
#ifdef ASSAY_RACECHECK
constexpr int kWarpArrivals = 32;
#else
constexpr int kWarpArrivals = 1;
#endif
static __device__ __forceinline__ void barrier_arrive_warp(uint32_t barrier)
{
    __syncwarp();
    if (kWarpArrivals == 32)
        barrier_arrive(barrier);
    else
        asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\n"
                     "@p mbarrier.arrive.shared::cta.b64 _, [%0];\n}\n" ::"r"(barrier)
                     : "memory");
}

/* Arrives once and adds the bytes that asynchronous copies will bring. */
static __device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

/* For a whole warp, as barrier_arrive_warp; adds the bytes once. */
static __device__ __forceinline__ void barrier_expect_warp(uint32_t barrier, uint32_t bytes)
{
    __syncwarp();
    if (lane_here() == 0)
        barrier_expect(barrier, bytes);
    else if (kWarpArrivals == 32)
        barrier_arrive(barrier);
}

/* Whether the phase of that parity is complete, after a short wait. */
static __device__ __forceinline__ bool barrier_test(uint32_t barrier, uint32_t parity)
{
    uint32_t complete;
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}\n"
                 : "=r"(complete)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return complete;
}

/* Returns once the phase of that parity is complete; at once where the parity is 1 and no phase is
 * yet. */
static __device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity)
{
    asm volatile("{\n.reg .pred p;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@p bra done;\n"
                 "bra again;\n"
                 "done:\n}\n" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

/* Contiguous bytes from device to shared memory; counts towards the barrier. */
static __device__ __forceinline__ void bulk_load(uint32_t destination, const void *source,
                                                 uint32_t bytes, uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(destination),
                 "l"(source), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* Contiguous bytes from shared to device memory, both at multiples of 16; counts in the calling
 * thread's current group of copies. */
static __device__ __forceinline__ void bulk_store(void *destination, uint32_t source,
                                                  uint32_t bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(destination),
                 "r"(source), "r"(bytes)
                 : "memory");
}

/* Ends the calling thread's group of copies. */
static __device__ __forceinline__ void bulk_store_commit(void)
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Returns once all but the last kPending groups of the calling thread have read their source. */
template <int kPending>
static __device__ __forceinline__ void bulk_store_wait_read(void)
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

/* ---- clusters -------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t cluster_rank(void)
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* All threads of all blocks; orders shared memory among them. */
static __device__ __forceinline__ void cluster_sync(void)
{
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/* The same, with all threads of a warp together. */
static __device__ __forceinline__ void cluster_sync_aligned(void)
{
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/* The address in block `rank` that `address` is here. */
static __device__ __forceinline__ uint32_t cluster_map(uint32_t address, uint32_t rank)
{
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

/* For a whole warp, at a barrier of another block: `barrier` is from cluster_map(). */
static __device__ __forceinline__ void cluster_arrive_warp(uint32_t barrier)
{
    __syncwarp();
    if (kWarpArrivals == 32 || lane_here() == 0)
        asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* To an address from cluster_map(); counts towards a barrier of the same block. */
static __device__ __forceinline__ void cluster_store_async(uint32_t address, uint32_t v,
                                                           uint32_t barrier)
{
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address),
        "r"(v), "r"(barrier)
        : "memory");
}

static __device__ __forceinline__ void cluster_store_async(uint32_t address, float2 v,
                                                           uint32_t barrier)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, "
                 "[%3];" ::"r"(address),
                 "f"(v.x), "f"(v.y), "r"(barrier)
                 : "memory");
}

/* Contiguous bytes of this block's shared memory, at multiples of 16, to an address from
 * cluster_map(); counts towards a barrier of the same block. */
static __device__ __forceinline__ void cluster_copy(uint32_t address, uint32_t source,
                                                    uint32_t bytes, uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(address),
                 "r"(source), "r"(bytes), "r"(barrier)
                 : "memory");
}

static __device__ __forceinline__ void cluster_store(uint32_t address, float2 v)
{
    asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(v.x), "f"(v.y)
                 : "memory");
}

#endif
