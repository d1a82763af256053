/* What the parts of the fused row kernel share: sizes, arguments, shared memory, where a tile lies
 * in x and in y (internal to gpu/; gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_ARGS_CUH
#define ASSAY_GPU_FUSED_ROWS_ARGS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/fused_common.cuh"
#include "gpu/hopper.cuh"

/* kParts, from the file that includes this: 1, products of fp16 operands; 2, of operands split in
 * two fp16 halves. */
constexpr int kBlockChannels = 64 / kParts;
constexpr int kMostBlocks = 2 * kParts; /* of a cluster */
constexpr int kColumns = 128;           /* of a warpgroup's product */
constexpr int kRowPhases = kParts;      /* in it */
constexpr int kStreams = 2 * kParts;    /* of a block */
constexpr int kGroups = 4;              /* warpgroups that multiply */
constexpr int kStreamWarps = 4 * kGroups / kStreams;
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kRingRows = 3;
/* Barriers of the same kind, for tiles in turn: when one is used again, by a tile of the same
 * stream, nobody waits for its last phase any more. */
constexpr int kTurns = 4;
constexpr int kSlots = 65; /* of a row in the ring: 64 patches and one more for the second tap */
constexpr int kResidues = 8;
constexpr int kStageLines = kBlockChannels / kResidues; /* channels of a residue */
constexpr int kStagePitch = 264; /* floats a channel: up to 7 carried, 258 of the tile; see below */
constexpr int kStages = kResidues / 2;        /* of two residues each: a tile's outputs */
constexpr int kBiasEach = kBlockChannels / 4; /* of a lane's channels */
constexpr int kBiasPitch = kBiasEach + 4; /* floats; a quad reads 16 bytes each without conflict */
constexpr int kBiases = 3 * kBiasPitch + kBiasEach;
constexpr int kTradeBytes = 128 * kRowPhases; /* a warp's sums, to one block */
constexpr int kLoaders = 2;                   /* warps that fetch x */
/* Tiles whose left edges are multiplied at once, at most a warp's rows; odd, so that streams take
 * turns. */
constexpr int kEdgeTiles = kParts == 1 ? 15 : 9;
constexpr int kEdgeSlots = kEdgeTiles + 1;  /* of their strip of pixels */
constexpr int kColumnPlaces = kStreams + 1; /* see column_ask() */
/* Sums of exponentials that need no maximum subtracted: terms that underflow are under 2^-66 of
 * them, and reciprocals are normal numbers. */
constexpr float kLeastSum = 0x1p-60f, kMostSum = 0x1p120f;

struct rows_args {
    const float *x;
    float *y;
    const __half *weights; /* [block of the cluster][row phase or part][tap][k / 8][column][8] */
    const float *conv_bias;
    const float *bias;
    /* [block][2 kEdgeTiles][row phase][residue][line] */
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
    /* of the ring, [row][channel / 8][part][slot][8]: a block's channels of a row lie together */
    static constexpr uint32_t kRingPart = kSlots * 16;
    static constexpr uint32_t kRingGroup = kParts * kRingPart;
    static constexpr uint32_t kRingRow = kChannelGroups * kRingGroup;
    static constexpr uint32_t kRing = kRingRows * kRingRow;
    /* A line of 265 floats, the longest, ends with one in the place of the next line's first. That
     * is a carried one, which the storing warps add when they have taken the others' last. */
    static constexpr uint32_t kStage = (2 * kStageLines * kStagePitch + 8) * 4;
    static constexpr uint32_t kStripPart = kChannelGroups * kEdgeSlots * 16;
    static constexpr uint32_t kStrip = kParts * kStripPart;
    static constexpr uint32_t kColumn = 2 * kBlockChannels * 4;
    static constexpr uint32_t kExchange =
        (kMostBlocks - 1) * kTradeBytes; /* [block][g][row phase][4] */
    static constexpr uint32_t weights = 0;
    static constexpr uint32_t ring = 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
    static constexpr uint32_t stage = ring + kRing;
    static constexpr uint32_t strip = stage + kStages * kStage;
    static constexpr uint32_t column = strip + kStrip;
    static constexpr uint32_t exchange = column + kColumnPlaces * kColumn; /* [warp] */
    static constexpr uint32_t params = exchange + kGroups * 4 * kExchange;
    static constexpr uint32_t pixels = params + 2 * kBiases * 4; /* see edge_place() */
    static constexpr uint32_t barriers = pixels + 3 * 64 / kMostBlocks * 4;
    /* barriers, 8 bytes each */
    static constexpr uint32_t full = barriers + 8; /* [ring row] */
    static constexpr uint32_t strips = full + kRingRows * 8;
    static constexpr uint32_t half = strips + 8;                      /* [tile mod kTurns] */
    static constexpr uint32_t done = half + kTurns * 8;               /* [tile mod kTurns] */
    static constexpr uint32_t staged = done + kTurns * 8;             /* [tile mod kTurns][stage] */
    static constexpr uint32_t stored = staged + kTurns * kStages * 8; /* [stage] */
    static constexpr uint32_t ready = stored + kStages * 8;           /* [warpgroup] */
    static constexpr uint32_t asked = ready + kGroups * 8;            /* [place of column 0] */
    static constexpr uint32_t arrived = asked + kColumnPlaces * 8;    /* [warp] */
    static constexpr uint32_t edge_arrived = arrived + kGroups * 4 * 8; /* [warp] */
    static constexpr uint32_t total = edge_arrived + kGroups * 4 * 8;
};
static_assert(rows_layout::total <= kSharedBytes, "shared memory");
static_assert(rows_layout::strip + ((kParts * kChannelGroups - 1) * kEdgeSlots + 64 + 1) * 16 <=
                  rows_layout::total,
              "what the edges' products read behind the strip");

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Where the pixels of tile g's patch row lie in x: false where they don't exist (zeros). */
static __device__ __forceinline__ bool rows_find(const struct rows_args &args, int g, int &image,
                                                 int &row)
{
    image = (int)fast_divide((uint32_t)max(g, 0), args.divide_rows);
    row = g - image * (int)args.divide_rows.divisor;
    return g >= 0 && g < args.tiles && row < args.height;
}

/* Two numbers of x, times `scale`: as fp16, and what that leaves of them. */
struct rows_pair {
    uint32_t part[kParts];
};

static __device__ __forceinline__ struct rows_pair rows_pack(float a, float b, float scale,
                                                             __half2 &high)
{
    struct rows_pair pair;
    a *= scale;
    b *= scale;
    high = __floats2half2_rn(a, b);
    pair.part[0] = *(const uint32_t *)&high;
    if (kParts == 2) {
        const __half2 low = __floats2half2_rn(a - __low2float(high), b - __high2float(high));
        pair.part[kParts - 1] = *(const uint32_t *)&low;
    }
    return pair;
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

/* Of the t-th of a block's `tiles`. */
static __device__ __forceinline__ struct rows_target
rows_target_of(const struct rows_args &args, const struct rows_place &place, int t, int tiles)
{
    struct rows_target target;
    const int first_row = 2 * place.a - args.padding_h;
    target.skip = first_row < 0;
    target.rows = max(0, min(2, args.output_h - first_row) - target.skip);
    target.length = target.rows * args.output_w;
    target.y = place.y + (target.skip ? args.output_w : 0);
    target.joined_head = t > 0 && place.a > 0;
    target.joined_tail = t + 1 < tiles && place.a + 1 < (int)args.divide_rows.divisor &&
                         first_row + 2 < args.output_h;
    return target;
}

/* Where a residue's first line lies in the stages, in floats. */
static __device__ __forceinline__ int rows_line(int residue)
{
    return residue / 2 * (int)(rows_layout::kStage / 4) + residue % 2 * kStageLines * kStagePitch;
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
