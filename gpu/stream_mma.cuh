/* What the streaming kernel needs beyond gpu/wgmma.cuh: the instruction for its widths, 16-byte
 * copies, clusters (internal to gpu/; sm_90a). */
#ifndef ASSAY_GPU_STREAM_MMA_CUH
#define ASSAY_GPU_STREAM_MMA_CUH

#include <stdint.h>

#include "gpu/wgmma.cuh"

/* d[64, N] += a[64, 16] * b[16, N]; layouts and fragments as gpu/wgmma.cuh tells. */
template <int kColumns>
struct stream_mma;

#define STREAM_D8(i)                                                                               \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define STREAM_D16(i) STREAM_D8(i), STREAM_D8(i + 8)
#define STREAM_D32(i) STREAM_D16(i), STREAM_D16(i + 16)
#define STREAM_R8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define STREAM_R16 STREAM_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define STREAM_R32 STREAM_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define STREAM_R64                                                                                 \
    STREAM_R32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,"     \
               "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define STREAM_R96                                                                                 \
    STREAM_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,"     \
               "%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define STREAM_R128                                                                                \
    STREAM_R96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"     \
               "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

#define STREAM_MMA(columns, registers, a, b, ...)                                                  \
    template <>                                                                                    \
    struct stream_mma<columns> {                                                                   \
        static __device__ __forceinline__ void run(float (&d)[columns / 2], uint64_t desc_a,       \
                                                   uint64_t desc_b)                                \
        {                                                                                          \
            asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                \
                         "wgmma.mma_async.sync.aligned.m64n" #columns                              \
                         "k16.f32.f16.f16 {" registers "}, " a ", " b ", p, 1, 1, 0, 0;\n}\n"      \
                         : __VA_ARGS__                                                             \
                         : "l"(desc_a), "l"(desc_b));                                              \
        }                                                                                          \
    }

STREAM_MMA(16, STREAM_R8, "%8", "%9", STREAM_D8(0));
STREAM_MMA(32, STREAM_R16, "%16", "%17", STREAM_D16(0));
STREAM_MMA(64, STREAM_R32, "%32", "%33", STREAM_D32(0));
STREAM_MMA(128, STREAM_R64, "%64", "%65", STREAM_D32(0), STREAM_D32(32));
STREAM_MMA(192, STREAM_R96, "%96", "%97", STREAM_D32(0), STREAM_D32(32), STREAM_D32(64));
STREAM_MMA(256, STREAM_R128, "%128", "%129", STREAM_D32(0), STREAM_D32(32), STREAM_D32(64),
           STREAM_D32(96));

/* ---- 16-byte copies from device to shared memory --------------------------------------------- */

/* The first `bytes` (0 or 16) of 16 come from `source`, the rest are zeros. Through L1, where taps
 * find each other's pixels. */
static __device__ __forceinline__ void copy_16(uint32_t destination, const void *source,
                                               uint32_t bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(destination), "l"(source),
                 "r"(bytes)
                 : "memory");
}

/* Arrives at the barrier once this thread's copies so far have landed; the arrival is one of those
 * that the barrier was initialised for. */
static __device__ __forceinline__ void copy_arrive(uint32_t barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

static __device__ __forceinline__ void copy_wait_all(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
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

/* The address in block `rank` that `address` is here. */
static __device__ __forceinline__ uint32_t cluster_map(uint32_t address, uint32_t rank)
{
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

static __device__ __forceinline__ void cluster_store(uint32_t address, float2 v)
{
    asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(v.x), "f"(v.y)
                 : "memory");
}

#endif
