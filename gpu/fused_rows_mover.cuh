/* The fused row kernel's movers, four warps: two bring x, NCHW fp32, into the rings of the
 * cluster's blocks, two take full stages to y (internal to gpu/; gpu/fused_rows.cuh has the whole
 * picture).
 */
#ifndef ASSAY_GPU_FUSED_ROWS_MOVER_CUH
#define ASSAY_GPU_FUSED_ROWS_MOVER_CUH

#include "gpu/async_copy.cuh"
#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* What a mover warp knows of its place. */
struct rows_mover {
    uint8_t *shared;
    const float *edge; /* column 0 of tiles, [tile][row phase][channel] */
    int first, tiles;  /* the block's tiles */
    int rank;
    int which; /* of the two that do the same: every other entry, or every other stage */
};

/* ---- x ---------------------------------------------------------------------------- */

/* A block of a cluster fetches its share of x's channels for all of them. */
template <int kCluster>
constexpr int kLoaderChannels = 64 / kCluster;

template <int kCluster>
static __device__ __forceinline__ int loader_channel(const struct rows_mover &at)
{
    return at.rank * kLoaderChannels<kCluster>;
}

/* The patch row of a tile, from the block's first channel on. */
struct rows_source {
    const float *x;
    int image;
    bool exists; /* or zeros */
};

template <int kCluster>
static __device__ __forceinline__ struct rows_source
rows_source_of(const struct rows_args &args, const struct rows_mover &at, int g)
{
    struct rows_source from;
    int row;
    from.exists = rows_find(args, g, from.image, row);
    from.x =
        args.x +
        ((int64_t)from.image * args.in_channels + loader_channel<kCluster>(at)) * args.input_plane +
        row * args.width;
    return from;
}

/* Where a block's shared memory begins, and the other blocks' of the cluster. */
template <int kCluster>
struct rows_bases {
    uint32_t here, there[kCluster > 1 ? kCluster - 1 : 1];
};

/* One word to `at` in all blocks, where it counts towards a barrier. */
template <int kCluster>
static __device__ __forceinline__ void store_all(const struct rows_bases<kCluster> &base,
                                                 uint32_t at, uint32_t v, uint32_t barrier)
{
    shared_store(base.here + at, v);
#pragma unroll
    for (int k = 0; k < kCluster - 1; k++)
        cluster_store_async(base.there[k] + at, v, base.there[k] + barrier);
}

/* Eight channels of a pixel, scaled and converted: 16 bytes of each part of the ring. */
struct rows_pixel {
    uint32_t part[kParts][4];
};

/* Channels 2q and 2q + 1. `largest` of the magnitudes, as fp16, which costs one instruction for two
 * and moves the limits it is held against by 2^-11; a NaN stays. */
static __device__ __forceinline__ void pixel_convert(struct rows_pixel &pixel, int q, float a,
                                                     float b, float scale, __half2 &largest)
{
    __half2 high;
    const struct rows_pair pair = rows_pack(a, b, scale, high);
    largest = __hmax2_nan(largest, __habs2(high));
#pragma unroll
    for (int part = 0; part < kParts; part++)
        pixel.part[part][q] = pair.part[part];
}

/* A pixel of the group of channels whose first is `channel` to a slot of the ring's row at `to`. */
static __device__ __forceinline__ void pixel_store(const struct rows_pixel &pixel, int channel,
                                                   int slot, uint32_t to)
{
#pragma unroll
    for (int part = 0; part < kParts; part++)
        shared_store(to + part * rows_layout::kRingPart + channel / 8 * rows_layout::kRingGroup +
                         slot * 16,
                     pixel.part[part]);
}

/* A chunk is 16 channels of a patch row, from `channel` on: two groups of eight; half the warp a
 * group, four columns of it a lane. Whether all of it can be fetched by 16 bytes. */
static __device__ __forceinline__ bool chunk_whole(const struct rows_args &args,
                                                   const struct rows_source &from, int channel)
{
    return from.exists && args.aligned && args.in_channels >= channel + 16;
}

/* The loads of a chunk whose first channel is at `x`, in flight after the return. */
static __device__ __forceinline__ void chunk_fetch(float4 (&v)[8], const struct rows_args &args,
                                                   const float *x)
{
    const int lane = lane_here();
    const float *from = x + lane / 16 * 8 * args.input_plane + min(lane % 16 * 4, args.width - 4);
#pragma unroll
    for (int q = 0; q < 8; q++)
        v[q] = global_load4(from + q * args.input_plane);
}

/* A lane's four pixels of a chunk, converted. */
struct rows_chunk {
    struct rows_pixel pixel[4];
};

static __device__ __forceinline__ void chunk_convert(struct rows_chunk &chunk, const float4 (&v)[8],
                                                     float scale, __half2 &largest)
{
#pragma unroll
    for (int q = 0; q < 4; q++) { /* whose registers are free then */
        const float4 a = v[2 * q], b = v[2 * q + 1];
        pixel_convert(chunk.pixel[0], q, a.x, b.x, scale, largest);
        pixel_convert(chunk.pixel[1], q, a.y, b.y, scale, largest);
        pixel_convert(chunk.pixel[2], q, a.z, b.z, scale, largest);
        pixel_convert(chunk.pixel[3], q, a.w, b.w, scale, largest);
    }
}

/* A chunk to the ring's row at `to`. */
static __device__ __forceinline__ void
chunk_store(const struct rows_chunk &chunk, const struct rows_args &args, int channel, uint32_t to)
{
    const int lane = lane_here(), col = lane % 16 * 4, slot = col - args.first_col;
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (slot + k >= 0 && slot + k < kSlots && col + k < args.width)
            pixel_store(chunk.pixel[k], channel + lane / 16 * 8, slot + k, to);
}

/* The same where some of it doesn't exist or isn't aligned, fetched here. */
static __device__ __forceinline__ void chunk_copy(const float *x, bool exists,
                                                  const struct rows_args &args, int channel,
                                                  uint32_t to, __half2 &largest)
{
    const int channels = exists ? args.in_channels - channel : 0;
#pragma unroll 1
    for (int unit = lane_here(); unit < 2 * 64; unit += 32) { /* group of channels, column */
        const int i = unit / 64, col = unit % 64, slot = col - args.first_col;
        struct rows_pixel pixel;
        float value[8];
#pragma unroll
        for (int q = 0; q < 8; q++)
            value[q] = 8 * i + q < channels && col < args.width
                           ? __ldg(x + (8 * i + q) * (int)args.input_plane + col)
                           : 0.0f;
#pragma unroll
        for (int q = 0; q < 4; q++)
            pixel_convert(pixel, q, value[2 * q], value[2 * q + 1], args.x_scale, largest);
        if (slot >= 0 && slot < kSlots && col < args.width)
            pixel_store(pixel, channel + 8 * i, slot, to);
    }
}

/* The block's channels of the ring's row at `row`, from `channel` on, to all other blocks. Returns
 * how many bytes that is to each. */
template <int kCluster>
static __device__ __forceinline__ uint32_t row_send(const struct rows_bases<kCluster> &base,
                                                    int channel, uint32_t row, uint32_t full)
{
    constexpr uint32_t kBytes = kLoaderChannels<kCluster> / 8 * rows_layout::kRingGroup;
    const uint32_t at = row + channel / 8 * rows_layout::kRingGroup;
    if (kCluster > 1) {
        fence_proxy_async();
        __syncwarp();
        if (lane_here() == 0)
#pragma unroll
            for (int k = 0; k < kCluster - 1; k++)
                cluster_copy(base.there[k] + at, base.here + at, kBytes, base.there[k] + full);
    }
    return kBytes;
}

/* The block's share of the patch row of tile g to the L2. */
template <int kCluster>
static __device__ __forceinline__ void row_prefetch(const struct rows_args &args,
                                                    const struct rows_mover &at, int g)
{
    const int lane = lane_here(), channel = loader_channel<kCluster>(at) + lane / 8;
    const struct rows_source row = rows_source_of<kCluster>(args, at, g);
    if (!row.exists || lane % 8 * 8 >= args.width)
        return;
    const float *from = row.x + lane / 8 * args.input_plane + lane % 8 * 8;
    const int end = min(args.in_channels, channel + kLoaderChannels<kCluster>);
#pragma unroll 1 /* or multiples of a plane would take registers */
    for (int c = channel; c < end; c += 4) {
        prefetch_l2(from);
        from += 4 * args.input_plane;
    }
}

/* The first entries to the L2, one by each of the movers. */
template <int kCluster>
static __device__ __forceinline__ void rows_prefetch(const struct rows_args &args, int first,
                                                     int rank, int entry)
{
    struct rows_mover at;
    at.rank = rank;
    row_prefetch<kCluster>(args, at, first - 1 + entry);
}

/* Pixels (a, 0), of which a lane brings two channels: by copies of 4 bytes, since the compiler
 * counts all loads in flight as one, and these take long. They arrive in one of three places, 8
 * bytes a lane: each loading warp's, and one for slot 1's, of one warp at a time. */
constexpr int kEdgeLanes = 32; /* of all blocks of a cluster */
template <int kCluster>
static __device__ __forceinline__ int edge_channel(const struct rows_mover &at)
{
    return at.rank * (64 / kCluster) + lane_here() * 2;
}

template <int kCluster>
static __device__ __forceinline__ uint32_t edge_place(const struct rows_bases<kCluster> &base,
                                                      int place)
{
    /* fewer blocks leave a part of the exchange */
    constexpr uint32_t kPixels = kCluster == kMostBlocks
                                     ? rows_layout::pixels
                                     : rows_layout::exchange + (kCluster - 1) * kTradeBytes;
    return base.here + kPixels + (place * (kEdgeLanes / kCluster) + lane_here()) * 8;
}

/* Asks for those of the patch row of tile g. */
template <int kCluster>
static __device__ __forceinline__ void edge_fetch(uint32_t to, const struct rows_args &args,
                                                  const struct rows_mover &at, int g)
{
    const int channel = edge_channel<kCluster>(at);
    int image, row;
    const bool exists = rows_find(args, g, image, row);
    const float *from = args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
                        row * args.width;
    if (lane_here() < kEdgeLanes / kCluster)
#pragma unroll
        for (int q = 0; q < 2; q++) {
            const bool real = exists && channel + q < args.in_channels;
            copy_4(to + 4 * q, real ? from + q * args.input_plane : args.x, real ? 4 : 0);
        }
}

/* What has arrived at `from` to a slot of the strip, where they lie at `strip`. Returns how many
 * bytes that is. */
template <int kCluster>
static __device__ __forceinline__ uint32_t edge_store(uint32_t from, float scale, uint32_t strip,
                                                      int slot,
                                                      const struct rows_bases<kCluster> &base)
{
    if (lane_here() < kEdgeLanes / kCluster) {
        __half2 unused;
        const float2 v = shared_load2(from);
        const struct rows_pair pair = rows_pack(v.x, v.y, scale, unused);
#pragma unroll
        for (int part = 0; part < kParts; part++)
            store_all(base, strip + part * rows_layout::kStripPart + slot * 16, pair.part[part],
                      rows_layout::strips);
    }
    return kEdgeLanes / kCluster * 4 * kParts;
}

/* The last of a strip's pixels to its beginning. */
template <int kCluster>
static __device__ __forceinline__ uint32_t edge_carry(uint32_t strip,
                                                      const struct rows_bases<kCluster> &base)
{
    if (lane_here() < kEdgeLanes / kCluster)
#pragma unroll
        for (int part = 0; part < kParts; part++) {
            const uint32_t to = strip + part * rows_layout::kStripPart;
            store_all(base, to, shared_load(base.here + to + kEdgeTiles * 16), rows_layout::strips);
        }
    return kEdgeLanes / kCluster * 4 * kParts;
}

/* Has column 0 of the block's tile t brought from the scratch, row phase by residue by line, to one
 * of kStreams + 1 places in turn, when tile t multiplies. The tile that was there is stored: before
 * that the stream filled the stages of tile t - kStreams, for which those of the one before had to
 * be free. By a copy, and long before it is needed: it takes 1 us. */
static __device__ __forceinline__ void column_ask(const struct rows_mover &at, uint32_t base, int t)
{
    constexpr uint32_t kBytes = rows_layout::kColumn;
    const int place = t % kColumnPlaces;
    fence_proxy_async();
    __syncwarp();
    if (lane_here() == 0) {
        const uint32_t asked = base + rows_layout::asked + 8 * place;
        barrier_expect(asked, kBytes);
        bulk_load(base + rows_layout::column + place * kBytes,
                  at.edge + t % (2 * kEdgeTiles) * (2 * kBlockChannels), kBytes, asked);
    }
}

/* Until entry t of the ring is read, by all of tile t - 1's products and half of tile t's. */
static __device__ __forceinline__ void tiles_wait(uint32_t base, int t)
{
    if (t > 0)
        barrier_wait(base + rows_layout::done + (t - 1) % kTurns * 8, (t - 1) / kTurns & 1);
    barrier_wait(base + rows_layout::half + t % kTurns * 8, t / kTurns & 1);
}

/* A warp's arrival at a barrier of its block, to which the same warp of every other block sends
 * `bytes`. */
template <int kCluster>
static __device__ __forceinline__ void warp_arrive(uint32_t barrier, uint32_t bytes)
{
    if (kCluster > 1)
        barrier_expect_warp(barrier, (kCluster - 1) * bytes);
    else
        barrier_arrive_warp(barrier);
}

/* Entry e brings the pixels (a, 0) of entry e + kEdgeTiles - 1 to this slot of a left edge's strip.
 * Slot 1's come with slot 2's, when the edge before is multiplied, and slot 0's, which were that
 * one's last. */
static __device__ __forceinline__ int edge_slot(int entry)
{
    return (entry - 2) % kEdgeTiles + 1;
}

/* Whether they do: not those of the first edge, which edge_load() fetched, nor of one that would
 * have no tile, for which nobody would wait. */
static __device__ __forceinline__ bool edge_wanted(const struct rows_args &args, int entry,
                                                   int tiles)
{
    return args.lead && entry >= 2 && edge_slot(entry) > 1 &&
           (entry + kEdgeTiles - 2) / kEdgeTiles * kEdgeTiles < tiles;
}

/* A loading warp's life: every other entry of the ring, so that its loads, as many as registers
 * hold, have the time of two tiles to arrive: beside so many writes they take 2 us and more. Others
 * are started here and find in the L2 what was asked for two entries before. What is stored here is
 * fenced by those who read it, for a fence waits for the loads in flight too. */
template <int kCluster>
static __device__ __forceinline__ void rows_load(const struct rows_args &args,
                                                 const struct rows_mover &at)
{
    typedef struct rows_layout at_byte;
    constexpr int kChunks = kLoaderChannels<kCluster> / 16;
    constexpr int kHeld = kChunks < 2 ? kChunks : 2;
    constexpr bool kConvertEarly = kChunks == 1; /* or registers run out */
    constexpr int kAhead = 2 * kLoaders;         /* entries, to the L2 */
    const int entries = at.tiles + 1, channel = loader_channel<kCluster>(at);
    struct rows_bases<kCluster> base;
    base.here = shared_address(at.shared);
#pragma unroll
    for (int k = 0; k < kCluster - 1; k++)
        base.there[k] = cluster_map(base.here, (at.rank + 1 + k) % kCluster);
    const int64_t chunk_step = 16 * args.input_plane;
    const int edge = edge_channel<kCluster>(at);
    const uint32_t strip = at_byte::strip + edge / 8 * kEdgeSlots * 16 + edge % 8 * 2;
    int entry = at.which, g = at.first - 1 + entry;
    struct rows_source from = rows_source_of<kCluster>(args, at, g);
    float4 v[kHeld][8];
#pragma unroll
    for (int k = 0; k < kHeld; k++)
        if (entry < entries && chunk_whole(args, from, channel + 16 * k))
            chunk_fetch(v[k], args, from.x + k * chunk_step);
#pragma unroll 1
    for (; entry < entries; entry += kLoaders, g += kLoaders) {
        const int row = entry % kRingRows, slot = edge_slot(entry);
        const uint32_t full = at_byte::full + row * 8;
        const uint32_t to = at_byte::ring + row * at_byte::kRingRow;
        __half2 largest = __float2half2_rn(0.0f);
        struct rows_chunk chunk;
        if (kConvertEarly && chunk_whole(args, from, channel))
            chunk_convert(chunk, v[0], args.x_scale, largest);
        const int before = entry - kRingRows;
        if (before >= 0) {
            tiles_wait(base.here, before);
            if (args.lead)
                column_ask(at, base.here, before);
        }
#pragma unroll
        for (int k = 0; k < kChunks; k++) {
            const int c = channel + 16 * k;
            if (chunk_whole(args, from, c)) {
                if (!kConvertEarly)
                    chunk_convert(chunk, v[k % kHeld], args.x_scale, largest);
                if (k + kHeld < kChunks && chunk_whole(args, from, c + 16 * kHeld))
                    chunk_fetch(v[k % kHeld], args, from.x + (k + kHeld) * chunk_step);
                chunk_store(chunk, args, c, base.here + to);
            } else {
                chunk_copy(from.x + k * chunk_step, from.exists, args, c, base.here + to, largest);
            }
        }
        warp_arrive<kCluster>(base.here + full, row_send(base, channel, to, full));
        if (edge_wanted(args, entry, at.tiles)) {
            uint32_t bytes = 0;
            copy_wait_all();
            if (slot == 2) {
                bytes += edge_carry(strip, base);
                bytes += edge_store(edge_place(base, 2), args.x_scale, strip, 1, base);
            }
            bytes += edge_store(edge_place(base, at.which), args.x_scale, strip, slot, base);
            warp_arrive<kCluster>(base.here + at_byte::strips, bytes);
        }
        /* for gpu/fused_repair.cuh; of numbers that are not negative bits order as they do */
        const float mine = __half2float(__hmax_nan(__low2half(largest), __high2half(largest)));
        const uint32_t most = __reduce_max_sync(~0u, __float_as_uint(mine * args.x_unit));
        if (from.exists && (threadIdx.x & 31) == 0)
            atomicMax(args.image_max + from.image, most);

        from = rows_source_of<kCluster>(args, at, g + kLoaders);
        if (entry + kLoaders < entries) {
#pragma unroll
            for (int k = 0; k < kHeld; k++)
                if (chunk_whole(args, from, channel + 16 * k))
                    chunk_fetch(v[k], args, from.x + k * chunk_step);
            if (edge_wanted(args, entry + kLoaders, at.tiles)) {
                const int ahead = g + kLoaders + kEdgeTiles - 1;
                if (edge_slot(entry + kLoaders) == 2)
                    edge_fetch<kCluster>(edge_place(base, 2), args, at, ahead - 1);
                edge_fetch<kCluster>(edge_place(base, at.which), args, at, ahead);
            }
        }
        row_prefetch<kCluster>(args, at, g + kAhead);
    }
    for (int t = max(entry - kRingRows, 1 - at.which); t < at.tiles && args.lead; t += kLoaders) {
        tiles_wait(base.here, t);
        column_ask(at, base.here, t);
    }
}

/* ---- y ---------------------------------------------------------------------------- */

/* What a storing warp knows of a tile. */
struct rows_store_tile {
    struct rows_target target;
    float *y;                /* target.y, known to be uniform */
    int begins_at;           /* where it lies in its sector */
    uint32_t staged, filled; /* barriers of its stages, and their phase */
    /* of this lane, in floats of shared memory: */
    bool column;                /* it puts a value of column 0 */
    int column_to, column_from; /* less the residue's lines, less the residue */
};

constexpr int kStageHalves = kStageLines / 4; /* a lane has a line of each */

/* What a tile leaves of a stage for the next tile, the floats behind the last whole sectors: a
 * lane's place of a sector, of two lines of both residues. */
struct rows_carry {
    float of[2][kStageHalves];
};

/* A full stage, of residues `residue` and the next one where there is one. kAll: there is, and all
 * their lines have channels. What can be is known before it is full. */
template <bool kAll>
static __device__ __forceinline__ void
stage_store(const struct rows_args &args, const struct rows_store_tile &tile,
            struct rows_carry &carry, int residue, int channels, int step)
{
    BLOCK_SHARED(shared); /* a pointer passed here would be generic */
    typedef struct rows_layout at_byte;
    float *const floats = (float *)shared;
    const uint32_t base = shared_address(shared);
    const int lane = lane_here();
    const int part = lane & 7;   /* a place in a sector, of line lane / 8 and of every fourth on */
    const int upper = lane >> 3; /* that line */
    constexpr int kFourLines = 4 * kStagePitch;
    const int lane_at = upper * kStagePitch + part, plane = (int)args.output_plane;
    const struct rows_target &target = tile.target;
    const int count = kAll || residue + 1 < channels ? 2 : 1;
    const int stage = residue / 2;
    int lines[2], offset[2], end[2], rest[2], used[2]; /* of floats */
    int from[2], to[2], bytes[2];
    float first_column[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        lines[k] = at_byte::stage / 4 + rows_line(residue) + k * kStageLines * kStagePitch;
        offset[k] = (tile.begins_at + (residue + k) * plane) & 7;
        end[k] = (offset[k] + target.length) & ~7; /* of whole sectors */
        rest[k] = (offset[k] + target.length) & 7;
        used[k] = kAll        ? kStageLines
                  : k < count ? (channels - (residue + k) + kResidues - 1) / kResidues
                              : 0;
        first_column[k] = floats[tile.column_from + (residue + k) * kStageLines];
        /* operands of copies: one that is not known to be uniform takes a loop */
        const int first = target.joined_head || offset[k] == 0 ? 0 : 8;
        from[k] = __shfl_sync(~0u, lines[k] + first, 0);
        to[k] = __shfl_sync(~0u, (residue + k) * plane - offset[k] + first, 0);
        bytes[k] = __shfl_sync(~0u, (end[k] - first) * 4, 0);
    }
    barrier_wait(tile.staged + 8 * stage, tile.filled);
    if (target.rows) {
        struct rows_carry tail;
#pragma unroll
        for (int k = 0; k < 2; k++)
#pragma unroll
            for (int half = 0; half < kStageHalves; half++)
                tail.of[k][half] = floats[lines[k] + lane_at + end[k] + half * kFourLines];
        __syncwarp();
#pragma unroll
        for (int k = 0; k < 2; k++) {
            if (tile.column)
                floats[lines[k] + tile.column_to + offset[k]] = first_column[k];
#pragma unroll
            for (int half = 0; half < kStageHalves; half++)
                if (target.joined_head && part < offset[k])
                    floats[lines[k] + lane_at + half * kFourLines] = carry.of[k][half];
        }
        __syncwarp();
        fence_proxy_async();
        if (lane == 0) {
#pragma unroll
            for (int k = 0; k < 2; k++) {
                float *const y = tile.y + to[k];
                const uint32_t stage_from = base + from[k] * 4;
                if (kAll)
#pragma unroll
                    for (int line = 0; line < kStageLines; line++)
                        bulk_store(y + line * step, stage_from + line * (kStagePitch * 4),
                                   bytes[k]);
                else
#pragma unroll 1
                    for (int line = 0; line < used[k]; line++)
                        bulk_store(y + line * step, stage_from + line * (kStagePitch * 4),
                                   bytes[k]);
            }
            bulk_store_commit();
        }
        if (!target.joined_head || !target.joined_tail) { /* sectors in parts */
#pragma unroll
            for (int half = 0; half < kStageHalves; half++)
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    const int line = half * 4 + upper;
                    float *const sector = target.y + (int64_t)line * kResidues * plane +
                                          ((residue + k) * plane - offset[k] + part);
                    const int at = lines[k] + lane_at + half * kFourLines;
                    if (!target.joined_head && offset[k] != 0 && part >= offset[k] &&
                        line < used[k])
                        sector[0] = floats[at];
                    if (!target.joined_tail && part < rest[k] && line < used[k])
                        sector[end[k]] = tail.of[k][half];
                }
        }
        carry = tail;
    }
    if (lane == 0)
        bulk_store_wait_read<0>();
    barrier_arrive_warp(base + at_byte::stored + 8 * stage);
}

/* A storing warp's life: every other stage, tile by tile. A function of its own, for the compiler
 * runs out of registers when it allocates it with the rest. */
static __device__ __noinline__ void rows_store(const struct rows_args &kernel_args,
                                               const struct rows_mover &mover)
{
    BLOCK_SHARED(shared);
    typedef struct rows_layout at_byte;
    const struct rows_args args = kernel_args; /* in registers */
    const struct rows_mover at = mover;
    const uint32_t base = shared_address(shared);
    const int lane = lane_here(), part = lane & 7, upper = lane >> 3;
    const int channels = min(kBlockChannels, args.out_channels - at.rank * kBlockChannels);
    const int residues = min(kResidues, channels); /* that have channels */
    const int rows = (int)args.divide_rows.divisor;
    /* from a line to the next, in y */
    const int step = __shfl_sync(~0u, kResidues * (int)args.output_plane, 0);
    struct rows_place place = rows_place_of(args, at.first, at.rank);
    struct rows_carry carry[kStages / 2] = {};
#pragma unroll 1
    for (int t = 0; t < at.tiles; t++) {
        struct rows_store_tile tile;
        tile.target = rows_target_of(args, place, t, at.tiles);
        tile.y = (float *)__shfl_sync(~0u, (unsigned long long)tile.target.y, 0);
        tile.begins_at = (int)((uintptr_t)tile.target.y >> 2 & 7);
        tile.staged = base + at_byte::staged + t % kTurns * (kStages * 8);
        tile.filled = t / kTurns & 1;
        const int row = upper - tile.target.skip; /* of column 0: a lane's row phase is `upper` */
        tile.column = args.lead && part < kStageLines && row >= 0 && row < tile.target.rows;
        tile.column_to = part * kStagePitch + row * args.output_w;
        tile.column_from = at_byte::column / 4 + t % kColumnPlaces * (2 * kBlockChannels) +
                           (upper & 1) * kBlockChannels + part;
        if (args.lead && 2 * at.which < residues)
            barrier_wait(base + at_byte::asked + 8 * (t % kColumnPlaces), t / kColumnPlaces & 1);
#pragma unroll
        for (int k = 0; k < kStages / 2; k++) {
            const int residue = 2 * at.which + 4 * k;
            if (channels == kBlockChannels)
                stage_store<true>(args, tile, carry[k], residue, channels, step);
            else if (residue < residues)
                stage_store<false>(args, tile, carry[k], residue, channels, step);
        }
        place.a++;
        place.y += 2 * args.output_w;
        if (place.a == rows) {
            place.a = 0;
            place.y += args.out_channels * args.output_plane - (int64_t)2 * rows * args.output_w;
        }
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
