/* The fused row kernel's movers, four warps: two bring x, NCHW fp32, into the streams' rings,
 * [channel / 8][row][slot][8] fp16; two take full stages to y (internal to gpu/;
 * gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_MOVER_CUH
#define ASSAY_GPU_FUSED_ROWS_MOVER_CUH

#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* What a mover warp knows of its place. */
struct rows_mover {
    uint8_t *shared;
    const float *edge;       /* column 0 of tiles, [stream][tile][row phase][channel] */
    int edge_stream;         /* floats from a stream's part of that to the next */
    int first, middle, last; /* tiles: stream 0's, from `middle` on stream 1's */
    int rank;
    int which; /* of the two that do the same: the stream, or every other stage */
};

/* ---- x ---------------------------------------------------------------------------- */

/* Eight channels of a pixel, scaled, to 16 bytes of the ring, of the other block's too, where they
 * count towards its barrier `full_other`. `largest` of the magnitudes, as fp16, which costs one
 * instruction for two and moves the limits it is held against by 2^-11; a NaN stays. */
template <int kCluster>
static __device__ __forceinline__ void pixel_store(uint32_t to, uint32_t to_other,
                                                   uint32_t full_other, const float (&value)[8],
                                                   float scale, bool real, __half2 &largest)
{
    uint32_t packed[4];
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const __half2 h = __floats2half2_rn(value[2 * q] * scale, value[2 * q + 1] * scale);
        largest = __hmax2_nan(largest, __habs2(h));
        packed[q] = *(const uint32_t *)&h;
    }
    if (!real)
        return;
    shared_store(to, packed);
    if (kCluster > 1)
        cluster_store_async(to_other, packed, full_other);
}

/* What a loading warp fetches at once: 16 channels of a patch row, two groups of eight; half the
 * warp a group, four columns of it a lane. A block of a cluster fetches half the channels for both.
 */
struct rows_part {
    int g;      /* the tile whose patch row it is */
    int group;  /* of eight channels: the first of two */
    bool whole; /* 16 bytes of all 16 channels' rows can be fetched by a lane */
};

template <int kCluster>
static __device__ __forceinline__ struct rows_part
rows_part_of(const struct rows_args &args, const struct rows_mover &at, int g, int part)
{
    struct rows_part of;
    int image, row;
    of.g = g;
    of.group = (kCluster > 1 ? at.rank * 4 : 0) + part * 2;
    of.whole =
        rows_find(args, g, image, row) && args.aligned && args.in_channels >= of.group * 8 + 16;
    return of;
}

/* The loads of a part, in flight after the return. */
static __device__ __forceinline__ void part_fetch(float4 (&v)[8], const struct rows_args &args,
                                                  const struct rows_part &of)
{
    if (!of.whole)
        return;
    const int lane = lane_here(), col = lane % 16 * 4;
    int image, row;
    rows_find(args, of.g, image, row);
    const float *from =
        args.x +
        ((int64_t)image * args.in_channels + (of.group + lane / 16) * 8) * args.input_plane +
        (row * args.width + min(col, args.width - 4));
#pragma unroll
    for (int q = 0; q < 8; q++)
        v[q] = global_load4(from + q * args.input_plane);
}

/* A part to the ring's row at `to`, of the other block of the cluster too. Returns the largest
 * magnitude, scaled. */
template <int kCluster>
static __device__ __forceinline__ __half2 part_store(const float4 (&v)[8],
                                                     const struct rows_args &args,
                                                     const struct rows_part &of, uint32_t to,
                                                     uint32_t to_other, uint32_t full_other)
{
    constexpr uint32_t kGroup = kRingRows * kSlots * 16;
    const int lane = lane_here();
    __half2 largest = __float2half2_rn(0.0f);
    if (of.whole) {
        const int col = lane % 16 * 4, slot = col - args.first_col;
        const uint32_t at = (of.group + lane / 16) * kGroup + slot * 16;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float value[8];
#pragma unroll
            for (int q = 0; q < 8; q++)
                value[q] = k == 0 ? v[q].x : k == 1 ? v[q].y : k == 2 ? v[q].z : v[q].w;
            pixel_store<kCluster>(
                to + at + k * 16, to_other + at + k * 16, full_other, value, args.x_scale,
                slot + k >= 0 && slot + k < kSlots && col + k < args.width, largest);
        }
    } else {
        const int plane = (int)args.input_plane;
        int image, row;
        const bool exists = rows_find(args, of.g, image, row);
        const float *x = args.x +
                         ((int64_t)image * args.in_channels + of.group * 8) * args.input_plane +
                         row * args.width;
        const int channels = exists ? args.in_channels - of.group * 8 : 0;
#pragma unroll 1
        for (int unit = lane; unit < 2 * 64; unit += 32) { /* group of channels, column */
            const int i = unit / 64, col = unit % 64, slot = col - args.first_col;
            const uint32_t at = (of.group + i) * kGroup + slot * 16;
            float value[8];
#pragma unroll
            for (int q = 0; q < 8; q++)
                value[q] = 8 * i + q < channels && col < args.width
                               ? __ldg(x + (8 * i + q) * plane + col)
                               : 0.0f;
            pixel_store<kCluster>(to + at, to_other + at, full_other, value, args.x_scale,
                                  slot >= 0 && slot < kSlots && col < args.width, largest);
        }
    }
    return largest;
}

/* A block's share of the patch row of tile g to the L2. */
template <int kCluster>
static __device__ __forceinline__ void row_prefetch(const struct rows_args &args,
                                                    const struct rows_mover &at, int g)
{
    const int lane = lane_here();
    int image, row, channel = (kCluster > 1 ? at.rank * 32 : 0) + lane / 8;
    if (!rows_find(args, g, image, row) || lane % 8 * 8 >= args.width)
        return;
    const float *from = args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
                        (row * args.width + lane % 8 * 8);
    const int end = min(args.in_channels, channel + 64 / kCluster);
#pragma unroll 1 /* or multiples of a plane would take registers */
    for (; channel < end; channel += 4) {
        prefetch_l2(from);
        from += 4 * args.input_plane;
    }
}

/* The first of the two channels of which a lane fetches the pixels (a, 0). */
constexpr int kEdgeLanes = 32; /* of all blocks of a cluster */
template <int kCluster>
static __device__ __forceinline__ int edge_channel(const struct rows_mover &at)
{
    return (kCluster > 1 ? at.rank * 32 : 0) + lane_here() * 2;
}

/* Those of the patch row of tile g. */
template <int kCluster>
static __device__ __forceinline__ void edge_fetch(float (&v)[2], const struct rows_args &args,
                                                  const struct rows_mover &at, int g)
{
    const int channel = edge_channel<kCluster>(at);
    int image, row;
    const bool exists = rows_find(args, g, image, row) && lane_here() < kEdgeLanes / kCluster;
    const float *from = args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
                        row * args.width;
#pragma unroll
    for (int q = 0; q < 2; q++) {
        v[q] = 0.0f;
        if (exists && channel + q < args.in_channels)
            v[q] = global_load(from + q * args.input_plane);
    }
}

/* Both to a slot of the strip at `to`, of the other block's too; before the first slot what is in
 * the last to slot 0. */
template <int kCluster>
static __device__ __forceinline__ void edge_store(uint32_t packed, const struct rows_mover &at,
                                                  int slot, uint32_t to, uint32_t to_other,
                                                  uint32_t full_other)
{
    const int channel = edge_channel<kCluster>(at);
    const uint32_t place = channel / 8 * kEdgeSlots * 16 + channel % 8 * 2;
    if (lane_here() >= kEdgeLanes / kCluster)
        return;
    if (slot == 1) {
        const uint32_t last = shared_load(to + place + kEdgeTiles * 16);
        shared_store(to + place, last);
        if (kCluster > 1)
            cluster_store_async(to_other + place, last, full_other);
    }
    shared_store(to + place + slot * 16, packed);
    if (kCluster > 1)
        cluster_store_async(to_other + place + slot * 16, packed, full_other);
}

/* Has column 0 of tile i of stream s brought from the scratch, row phase by residue by line, to one
 * of two places in turn. What was there is stored: before it multiplied tile i the stream filled
 * the stages of tile i - 1, two at least, for which those of tile i - 2 had to be free. By a copy,
 * and long before it is needed: it takes 1 us. */
static __device__ __forceinline__ void column_ask(const struct rows_mover &at, uint32_t base, int s,
                                                  int i)
{
    constexpr uint32_t kBytes = kColumns * 4;
    const int place = s * 2 + i % 2;
    fence_proxy_async();
    __syncwarp();
    if (lane_here() == 0) {
        const uint32_t asked = base + rows_layout::asked + 8 * place;
        barrier_expect(asked, kBytes);
        bulk_load(base + rows_layout::column + place * kBytes,
                  at.edge + s * at.edge_stream + i % (2 * kEdgeTiles) * kColumns, kBytes, asked);
    }
}

/* A loading warp's life: the entries of a stream's ring. Entry j holds the patch row of the
 * stream's tile j - (taps_h - 1). The loads of an entry start when the one before is stored, a
 * whole tile ahead: beside so many writes they take 2 us and more. One stream's, for the compiler
 * waits for all loads in flight at once. What is stored here is fenced by those who read it, for a
 * fence waits for the loads in flight too.
 *
 * With entry j come the pixels (a, 0) of entry j + kEdgeTiles - 1, for the strip of the next left
 * edge: its slots 1 to kEdgeTiles from the entry on whose `done` barrier says that the last edge
 * was multiplied; slot 0 is the last one's slot kEdgeTiles. */
template <int kCluster>
static __device__ __forceinline__ void rows_load(const struct rows_args &args,
                                                 const struct rows_mover &at)
{
    typedef struct rows_layout at_byte;
    constexpr int kParts = 4 / kCluster; /* of a row, of a block */
    const int s = at.which, begin = s ? at.middle : at.first;
    const int tiles = s ? at.last - at.middle : at.middle - at.first;
    const int entries = tiles > 0 ? tiles + args.taps_h - 1 : 0;
    const uint32_t base = shared_address(at.shared);
    const uint32_t base_other = kCluster > 1 ? cluster_map(base, at.rank ^ 1) : 0;
    const uint32_t strip = at_byte::strip + s * at_byte::kStrip;
    const int columns = args.width - max(args.first_col, 0); /* that have a slot */
    int g = begin - (args.taps_h - 1);
    float4 v[2][8];
    float pixels[2] = {};
    if (tiles > 0)
#pragma unroll
        for (int part = 0; part < 2; part++)
            part_fetch(v[part], args, rows_part_of<kCluster>(args, at, g, part));
#pragma unroll 1
    for (int entry = 0; entry < entries; entry++, g++) {
        const int slot_row = entry % kRingRows;
        const int edge_slot = (entry - kRingRows) % kEdgeTiles + 1;
        const uint32_t barrier = (s * kRingRows + slot_row) * 8;
        const uint32_t full = at_byte::full + barrier;
        const uint32_t row = at_byte::ring + s * at_byte::kRing + slot_row * kSlots * 16u;
        uint32_t bytes = kParts * 2 * 16 * columns; /* that the other block sends */
        __half2 largest = __float2half2_rn(0.0f);
        barrier_wait(base + at_byte::done + barrier, (entry / kRingRows & 1) ^ 1);
        const bool multiplied = entry >= kRingRows; /* tile entry - kRingRows; its edge is kept */
        if (args.lead && multiplied)
            column_ask(at, base, s, entry - kRingRows);
#pragma unroll
        for (int part = 0; part < kParts; part++) {
            largest = __hmax2_nan(
                largest,
                part_store<kCluster>(v[part % 2], args, rows_part_of<kCluster>(args, at, g, part),
                                     base + row, base_other + row, base_other + full));
            if (part + 2 < kParts)
                part_fetch(v[part % 2], args, rows_part_of<kCluster>(args, at, g, part + 2));
        }
        if (args.lead && multiplied) {
            edge_store<kCluster>(rows_pack(pixels[0], pixels[1], args.x_scale), at, edge_slot,
                                 base + strip, base_other + strip, base_other + full);
            bytes += kEdgeLanes / kCluster * 4 * (edge_slot == 1 ? 2 : 1);
        }
        if (kCluster > 1)
            barrier_expect_warp(base + full, bytes);
        else
            barrier_arrive_warp(base + full);
        /* for gpu/fused_repair.cuh; of numbers that are not negative bits order as they do */
        const float mine = __half2float(__hmax_nan(__low2half(largest), __high2half(largest)));
        const uint32_t most = __reduce_max_sync(~0u, __float_as_uint(mine * args.x_unit));
        int image, image_row;
        if (rows_find(args, g, image, image_row) && (threadIdx.x & 31) == 0)
            atomicMax(args.image_max + image, most);
        if (entry + 1 < entries) {
#pragma unroll
            for (int part = 0; part < 2; part++)
                part_fetch(v[part], args, rows_part_of<kCluster>(args, at, g + 1, part));
            if (args.lead)
                edge_fetch<kCluster>(pixels, args, at, g + kEdgeTiles);
            row_prefetch<kCluster>(args, at, g + 2);
        }
    }
    for (int i = max(entries - kRingRows, 0); i < tiles && args.lead; i++) {
        const uint32_t barrier = (s * kRingRows + i % kRingRows) * 8;
        barrier_wait(base + at_byte::done + barrier, i / kRingRows & 1);
        column_ask(at, base, s, i);
    }
}

/* ---- y ---------------------------------------------------------------------------- */

/* What a storing warp knows of a tile. */
struct rows_store_tile {
    struct rows_target target;
    float *y;         /* target.y, known to be uniform */
    int begins_at;    /* where it lies in its sector */
    int first_number; /* of the tile's stages */
    /* of this lane, in floats of shared memory: */
    bool column;                /* it puts a value of column 0 */
    int column_to, column_from; /* less the stage, less the residue */
    int carry; /* its two values of what a tile leaves for the next, less the residue */
};

/* A full stage, of residues `residue` and the next one where there is one. kAll: there is, and all
 * their lines have channels. What can be is known before it is full. */
template <bool kAll>
static __device__ __forceinline__ void stage_store(const struct rows_args &args,
                                                   const struct rows_store_tile &tile, int residue,
                                                   int channels, int step)
{
    BLOCK_SHARED(shared); /* a pointer passed here would be generic */
    typedef struct rows_layout at_byte;
    constexpr int kHalf = kStageLines / 2;
    constexpr int kFloats = kStageLines * kStagePitch; /* of a residue */
    float *const floats = (float *)shared;
    const uint32_t base = shared_address(shared);
    const int lane = lane_here();
    const int part = lane & 7;   /* a place in a sector, of lines lane / 8 and 4 + lane / 8 */
    const int upper = lane >> 3; /* such a line */
    const int lane_at = upper * kStagePitch + part, plane = (int)args.output_plane;
    const struct rows_target &target = tile.target;
    const int count = kAll || residue + 1 < channels ? 2 : 1;
    const struct rows_stage stage = rows_stage_of(tile.first_number + residue / 2);
    int lines[2], offset[2], end[2], rest[2], used[2]; /* of floats */
    int from[2], to[2], bytes[2];
    float before[2][2], first_column[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        lines[k] = at_byte::stage / 4 + (stage.index * 2 + k) * kFloats;
        offset[k] = (tile.begins_at + (residue + k) * plane) & 7;
        end[k] = (offset[k] + target.length) & ~7; /* of whole sectors */
        rest[k] = (offset[k] + target.length) & 7;
        used[k] = kAll        ? kStageLines
                  : k < count ? (channels - (residue + k) + kResidues - 1) / kResidues
                              : 0;
        before[k][0] = floats[tile.carry + (residue + k) * 64];
        before[k][1] = floats[tile.carry + (residue + k) * 64 + kHalf * 8];
        first_column[k] = floats[tile.column_from + (residue + k) * kStageLines];
        /* operands of copies: one that is not known to be uniform takes a loop */
        const int first = target.joined_head || offset[k] == 0 ? 0 : 8;
        from[k] = __shfl_sync(~0u, lines[k] + first, 0);
        to[k] = __shfl_sync(~0u, (residue + k) * plane - offset[k] + first, 0);
        bytes[k] = __shfl_sync(~0u, (end[k] - first) * 4, 0);
    }
    barrier_wait(base + at_byte::staged + 8 * stage.index, stage.parity);
    if (target.rows) {
#pragma unroll
        for (int k = 0; k < 2; k++) {
            if (tile.column)
                floats[lines[k] + tile.column_to + offset[k]] = first_column[k];
            if (target.joined_head && part < offset[k]) {
                floats[lines[k] + lane_at] = before[k][0];
                floats[lines[k] + lane_at + kHalf * kStagePitch] = before[k][1];
            }
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
        float tail[2][2];
#pragma unroll
        for (int k = 0; k < 2; k++) {
            tail[k][0] = floats[lines[k] + lane_at + end[k]];
            tail[k][1] = floats[lines[k] + lane_at + end[k] + kHalf * kStagePitch];
        }
#pragma unroll
        for (int k = 0; k < 2; k++)
            if (target.joined_tail && part < rest[k]) {
                floats[tile.carry + (residue + k) * 64] = tail[k][0];
                floats[tile.carry + (residue + k) * 64 + kHalf * 8] = tail[k][1];
            }
    }
    if (target.rows && (!target.joined_head || !target.joined_tail)) { /* sectors in parts */
#pragma unroll 1
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                const int line = half * kHalf + upper;
                float *const sector = target.y + (int64_t)line * kResidues * plane +
                                      ((residue + k) * plane - offset[k] + part);
                const int at = lines[k] + lane_at + half * kHalf * kStagePitch;
                if (!target.joined_head && offset[k] != 0 && part >= offset[k] && line < used[k])
                    sector[0] = floats[at];
                if (!target.joined_tail && part < rest[k] && line < used[k])
                    sector[end[k]] = floats[at + end[k]];
            }
    }
    if (lane == 0)
        bulk_store_wait_read<0>();
    barrier_arrive_warp(base + at_byte::stored + 8 * stage.index);
}

/* A storing warp's life: every other stage, of the streams' tiles in turn. A function of its own,
 * for the compiler runs out of registers when it allocates it with the rest. */
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
    const int stages = (residues + 1) / 2;         /* of a tile */
    const int rows = (int)args.divide_rows.divisor;
    /* from a line to the next, in y */
    const int step = __shfl_sync(~0u, kResidues * (int)args.output_plane, 0);
    struct rows_place place = rows_place_of(args, at.first, at.rank);
    struct rows_place other = rows_place_of(args, at.middle, at.rank);
#pragma unroll 1
    for (int turn = 0; turn < at.last - at.first; turn++) {
        const int i = turn / kStreams, s = turn % kStreams;
        const int tiles = s ? at.last - at.middle : at.middle - at.first;
        struct rows_store_tile tile;
        tile.target = rows_target_of(args, place, i, tiles);
        tile.y = (float *)__shfl_sync(~0u, (unsigned long long)tile.target.y, 0);
        tile.begins_at = (int)((uintptr_t)tile.target.y >> 2 & 7);
        tile.first_number = turn * stages;
        const int row = upper - tile.target.skip; /* of column 0: a lane's row phase is `upper` */
        tile.column = args.lead && row >= 0 && row < tile.target.rows;
        tile.column_to = part * kStagePitch + row * args.output_w;
        tile.column_from = (at_byte::column + (s * 2 + i % 2) * kColumns * 4) / 4 +
                           (upper & 1) * kBlockChannels + part;
        tile.carry = at_byte::carry / 4 + s * kBlockChannels * 8 + lane;
        if (args.lead && 2 * at.which < residues)
            barrier_wait(base + at_byte::asked + 8 * (s * 2 + i % 2), i / 2 & 1);
        if (channels == kBlockChannels) {
#pragma unroll 1
            for (int residue = 2 * at.which; residue < kResidues; residue += 4)
                stage_store<true>(args, tile, residue, channels, step);
        } else {
#pragma unroll 1
            for (int residue = 2 * at.which; residue < residues; residue += 4)
                stage_store<false>(args, tile, residue, channels, step);
        }
        place.a++;
        place.y += 2 * args.output_w;
        if (place.a == rows) {
            place.a = 0;
            place.y += args.out_channels * args.output_plane - (int64_t)2 * rows * args.output_w;
        }
        const struct rows_place next = other;
        other = place;
        place = next;
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
