/* What the parts of the fused row kernel share: sizes, arguments, shared memory, where a tile lies
 * in x and in y (internal to gpu/; gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_ARGS_CUH
#define ASSAY_GPU_FUSED_ROWS_ARGS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/fused_common.cuh"
#include "gpu/hopper.cuh"

constexpr int kBlockChannels = 64;
constexpr int kColumns = 2 * kBlockChannels; /* of one row phase */
constexpr int kStreams = 2;                  /* of a block */
constexpr int kGroups = 2 * kStreams;        /* warpgroups that multiply */
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kRingRows = 2;
constexpr int kSlots = 65; /* of a row in the ring: 64 patches and one more for the second tap */
constexpr int kResidues = 8;
constexpr int kStageLines = kBlockChannels / kResidues; /* channels of a residue */
constexpr int kStagePitch = 272; /* floats a channel: up to 7 carried, 258 of the tile */
constexpr int kStages = 3;       /* of a block, of two residues; its streams fill them in turn */
constexpr int kBiasPitch = 20;   /* floats; a quad of lanes reads 16 bytes each without conflict */
constexpr int kEdgeTiles = 16;   /* tiles whose left edges are multiplied at once: a warp's rows */
constexpr int kEdgeSlots = kEdgeTiles + 1; /* of their strip of pixels */
/* Sums of exponentials that need no maximum subtracted: terms that underflow are under 2^-66 of
 * them, and reciprocals are normal numbers. */
constexpr float kLeastSum = 0x1p-60f, kMostSum = 0x1p120f;

struct rows_args {
    const float *x;
    float *y;
    const __half *weights; /* [block of the cluster][row phase][tap][k / 8][column][8] */
    const float *conv_bias;
    const float *bias;
    /* [cluster][stream][block of the cluster][2 kEdgeTiles][row phase][kBlockChannels] */
    float *edge;
    uint32_t *image_max; /* [images], bits of the largest |x| */
    float x_scale;       /* power of two */
    float x_unit;        /* 1 / x_scale */
    float descale;       /* log2(e) / (x_scale * weight_scale) */
    float scaling_factor;
    float origin; /* taken off every logit: the largest conv_bias */
    int in_channels, out_channels, height, width, output_h, output_w;
    int padding_h;
    int taps_h, taps_w;
    int lead;      /* 1: column 0 belongs to the patches (a, 0), the tile begins at column 1 */
    int first_col; /* the column of x in slot 0 */
    int tiles;     /* images * rows of patches */
    bool aligned;  /* x by 16 bytes at any row */
    int tiles_each, tiles_over; /* a cluster's; clusters with one more */
    struct fast_divisor divide_rows;
    int64_t input_plane, output_plane;
};

/* Shared memory, in bytes from its start. */
struct rows_layout {
    static constexpr uint32_t kRing = kChannelGroups * kRingRows * kSlots * 16;
    static constexpr uint32_t kStage = 2 * kStageLines * kStagePitch * 4;
    static constexpr uint32_t kStrip = kChannelGroups * kEdgeSlots * 16;
    static constexpr uint32_t weights = 0;
    static constexpr uint32_t ring = 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
    static constexpr uint32_t stage = ring + kStreams * kRing;
    static constexpr uint32_t carry = stage + kStages * kStage;
    static constexpr uint32_t strip = carry + kStreams * kBlockChannels * 8 * 4;
    static constexpr uint32_t column = strip + kStreams * kStrip; /* [stream][2] */
    static constexpr uint32_t exchange = column + kStreams * 2 * kColumns * 4;
    static constexpr uint32_t params = exchange + kGroups * 4 * 2 * 128;
    static constexpr uint32_t barriers = params + 2 * 4 * kBiasPitch * 4;
    /* barriers, 8 bytes each */
    static constexpr uint32_t full = barriers + 8;                      /* [stream][ring row] */
    static constexpr uint32_t done = full + kStreams * kRingRows * 8;   /* [stream][ring row] */
    static constexpr uint32_t staged = done + kStreams * kRingRows * 8; /* [stage] */
    static constexpr uint32_t stored = staged + kStages * 8;            /* [stage] */
    static constexpr uint32_t turns = stored + kStages * 8;             /* [stream] */
    static constexpr uint32_t asked = turns + kStreams * 8;             /* [stream][2] */
    static constexpr uint32_t arrived = asked + kStreams * 2 * 8;       /* [warp][2] */
    static constexpr uint32_t total = arrived + kGroups * 4 * 2 * 8;
};
static_assert(rows_layout::total <= kSharedBytes, "shared memory");
static_assert(rows_layout::strip + rows_layout::kStrip +
                      ((kChannelGroups - 1) * kEdgeSlots + 64 + 1) * 16 <=
                  rows_layout::total,
              "what the edges' products read behind the last strip");

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Where the pixels of tile g's patch row lie in x: false where they don't exist (zeros). */
static __device__ __forceinline__ bool rows_find(const struct rows_args &args, int g, int &image,
                                                 int &row)
{
    image = (int)fast_divide((uint32_t)max(g, 0), args.divide_rows);
    row = g - image * (int)args.divide_rows.divisor;
    return g >= 0 && g < args.tiles && row < args.height;
}

static __device__ __forceinline__ uint32_t rows_pack(float a, float b, float scale)
{
    const __half2 h = __floats2half2_rn(a * scale, b * scale);
    return *(const uint32_t *)&h;
}

/* A stage in the order in which the streams fill them: which, and the parity of how often before.
 */
struct rows_stage {
    int index;
    uint32_t parity;
};

/* The number-th stage that the block fills: n (2 i + s) + r for stage r of tile i of stream s,
 * where tiles have n stages. */
static __device__ __forceinline__ struct rows_stage rows_stage_of(int number)
{
    return {number % kStages, (uint32_t)(number / kStages) & 1};
}

static __device__ __forceinline__ void rows_stage_next(struct rows_stage &stage)
{
    const bool last = stage.index == kStages - 1;
    stage.index = last ? 0 : stage.index + 1;
    stage.parity ^= last;
}

/* Where a tile lies in y: the block's first channel, the first row that exists. */
struct rows_target {
    float *y;
    int skip;         /* 1: row phase 0 does not exist */
    int rows;         /* that exist: 0, 1 or 2 */
    int length;       /* outputs of a channel */
    bool joined_head; /* the previous tile left the floats before the first */
    bool joined_tail; /* the next tile takes the floats behind the last whole sector */
};

/* Where tile g lies in y: patch row a of its image, whose first row, there or not, is at y in the
 * block's first channel. */
struct rows_place {
    float *y;
    int a;
};

static __device__ __forceinline__ struct rows_place rows_place_of(const struct rows_args &args,
                                                                  int g, int rank)
{
    const int image = (int)fast_divide((uint32_t)g, args.divide_rows);
    struct rows_place place;
    place.a = g - image * (int)args.divide_rows.divisor;
    place.y = args.y +
              ((int64_t)image * args.out_channels + rank * kBlockChannels) * args.output_plane +
              (int64_t)(2 * place.a - args.padding_h) * args.output_w;
    return place;
}

/* Of tile i of a stream's `tiles`. */
static __device__ __forceinline__ struct rows_target
rows_target_of(const struct rows_args &args, const struct rows_place &place, int i, int tiles)
{
    struct rows_target target;
    const int first_row = 2 * place.a - args.padding_h;
    target.skip = first_row < 0;
    target.rows = max(0, min(2, args.output_h - first_row) - target.skip);
    target.length = target.rows * args.output_w;
    target.y = place.y + (target.skip ? args.output_w : 0);
    target.joined_head = i > 0 && place.a > 0;
    target.joined_tail = i + 1 < tiles && place.a + 1 < (int)args.divide_rows.divisor &&
                         first_row + 2 < args.output_h;
    return target;
}

/* The offset in a sector of a tile's outputs in the channels of a residue: eight planes are whole
 * sectors. */
static __device__ __forceinline__ int rows_offset(const struct rows_args &args,
                                                  const struct rows_target &target, int residue)
{
    return (int)(((uint32_t)((uintptr_t)target.y >> 2) +
                  (uint32_t)residue * (uint32_t)args.output_plane) &
                 7);
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
