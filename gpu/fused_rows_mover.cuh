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
    int which; /* 0 or 1: the half of x's channels, the pairs of residues 0 and 2 or 1 and 3 */
};

/* ---- x ---------------------------------------------------------------------------- */

/* Eight channels of a pixel, scaled, to 16 bytes of the ring. `largest` of the magnitudes, as fp16,
 * which costs one instruction for two and moves the limits it is held against by 2^-11; a NaN
 * stays. */
static __device__ __forceinline__ void pixel_store(uint32_t to, const float (&value)[8],
                                                   float scale, bool real, __half2 &largest)
{
    uint32_t packed[4];
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const __half2 h = __floats2half2_rn(value[2 * q] * scale, value[2 * q + 1] * scale);
        largest = __hmax2_nan(largest, __habs2(h));
        packed[q] = *(const uint32_t *)&h;
    }
    if (real)
        shared_store(to, packed);
}

/* Half the channels of the patch row of tile g into the ring's row `slot_row`, once `done`, the
 * barrier behind the last tile that read it, allows. Returns the largest magnitude, scaled. */
static __device__ __forceinline__ __half2 load_half(const struct rows_args &args, uint32_t ring,
                                                    int slot_row, int g, int half, uint32_t done,
                                                    uint32_t done_parity)
{
    const int lane = lane_here();
    __half2 largest = __float2half2_rn(0.0f);
    int image, row;
    const bool exists = rows_find(args, g, image, row);
    const int channels = exists ? args.in_channels - half * 32 : 0;
    const int plane = (int)args.input_plane;
    const float *x = args.x + ((int64_t)image * args.in_channels + half * 32) * args.input_plane +
                     row * args.width;
    constexpr uint32_t kGroup = kRingRows * kSlots * 16;
    const uint32_t to = ring + half * 4 * kGroup + slot_row * kSlots * 16u;
    if (channels >= 32 && args.aligned) { /* half a warp four columns of 16 channels each */
        const int col = lane % 16 * 4, upper = lane / 16 * 2;
        const float *from = x + upper * 8 * plane + min(col, args.width - 4);
        float4 v[16];
#pragma unroll
        for (int q = 0; q < 16; q++)
            v[q] = __ldg((const float4 *)(from + q * plane));
        barrier_wait(done, done_parity);
        const int slot = col - args.first_col;
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                float value[8];
#pragma unroll
                for (int q = 0; q < 8; q++)
                    value[q] = k == 0   ? v[8 * i + q].x
                               : k == 1 ? v[8 * i + q].y
                               : k == 2 ? v[8 * i + q].z
                                        : v[8 * i + q].w;
                pixel_store(to + (upper + i) * kGroup + (slot + k) * 16, value, args.x_scale,
                            slot + k >= 0 && slot + k < kSlots && col + k < args.width, largest);
            }
    } else {
        barrier_wait(done, done_parity);
#pragma unroll 1
        for (int unit = lane; unit < 4 * 64; unit += 32) { /* group of channels, column */
            const int i = unit / 64, col = unit % 64, slot = col - args.first_col;
            float value[8];
#pragma unroll
            for (int q = 0; q < 8; q++)
                value[q] = 8 * i + q < channels && col < args.width
                               ? __ldg(x + (8 * i + q) * plane + col)
                               : 0.0f;
            pixel_store(to + i * kGroup + slot * 16, value, args.x_scale,
                        slot >= 0 && slot < kSlots && col < args.width, largest);
        }
    }
    return largest;
}

/* A warp's share of the patch row of tile g to the L2, where load_half() finds it a tile later:
 * beside so many writes a load from device memory takes 2 us and more. */
static __device__ __forceinline__ void prefetch_row(const struct rows_args &args, int g, int half,
                                                    int rank, int blocks)
{
    const int lane = threadIdx.x & 31, col = lane % 2 * 32;
    int image, row;
    if (!rows_find(args, g, image, row) || col >= args.width)
        return;
    for (int k = rank * 16 + lane / 2; k < 32; k += blocks * 16)
        if (half * 32 + k < args.in_channels)
            asm volatile("prefetch.global.L2 [%0];" ::"l"(
                args.x + ((int64_t)image * args.in_channels + half * 32 + k) * args.input_plane +
                (row * args.width + col)));
}

/* A loading warp's life. Entry j of a stream's ring holds the patch row of its tile
 * j - (taps_h - 1). */
static __device__ __forceinline__ void rows_load(const struct rows_args &args,
                                                 const struct rows_mover &at, int blocks)
{
    typedef struct rows_layout at_byte;
    const uint32_t base = shared_address(at.shared);
    int slot_row = 0;
    uint32_t done_parity = 1;
#pragma unroll 1
    for (int entry = 0; entry < at.middle - at.first + args.taps_h - 1; entry++) {
#pragma unroll 1
        for (int s = 0; s < kStreams; s++) {
            const int begin = s ? at.middle : at.first;
            const int tiles = s ? at.last - at.middle : at.middle - at.first;
            if (tiles == 0 || entry >= tiles + args.taps_h - 1)
                continue;
            const int g = begin + entry - (args.taps_h - 1);
            const uint32_t barrier = (s * kRingRows + slot_row) * 8;
            prefetch_row(args, g + 1, at.which, at.rank, blocks);
            const __half2 most =
                load_half(args, base + at_byte::ring + s * at_byte::kRing, slot_row, g, at.which,
                          base + at_byte::done + barrier, done_parity);
            fence_proxy_async();
            barrier_arrive_warp(base + at_byte::full + barrier);
            /* for gpu/fused_repair.cuh; of numbers that are not negative bits order as they do */
            const float mine = __half2float(__hmax_nan(__low2half(most), __high2half(most)));
            const uint32_t largest = __reduce_max_sync(~0u, __float_as_uint(mine / args.x_scale));
            int image, row;
            if (rows_find(args, g, image, row) && at.rank == 0 && (threadIdx.x & 31) == 0)
                atomicMax(args.image_max + image, largest);
        }
        slot_row = slot_row == kRingRows - 1 ? 0 : slot_row + 1;
        done_parity ^= slot_row == 0;
    }
}

/* ---- y ---------------------------------------------------------------------------- */

/* Has column 0 of tile i of stream s brought from the scratch to `columns`, row phase by residue by
 * line. By a copy: an ordinary load would hold up the next fence until it returns. */
static __device__ __forceinline__ void column_ask(const struct rows_mover &at, int s, int i,
                                                  uint32_t columns, uint32_t asked)
{
    constexpr uint32_t kBytes = kColumns * 4;
    fence_proxy_async();
    __syncwarp();
    if ((threadIdx.x & 31) == 0) {
        barrier_expect(asked, kBytes);
        bulk_load(columns, at.edge + s * at.edge_stream + i % kEdgeTiles * kColumns, kBytes, asked);
    }
}

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

/* Two full stages, of residues `residue` and the next one where there is one. kAll: there is, and
 * all their lines have channels. What can be is known before they are full. */
template <bool kAll>
static __device__ __forceinline__ void stages_store(const struct rows_args &args,
                                                    const struct rows_store_tile &tile, int residue,
                                                    int channels, int step)
{
    extern __shared__ __align__(128) uint8_t shared[]; /* a pointer passed here would be generic */
    typedef struct rows_layout at_byte;
    constexpr int kHalf = kStageLines / 2;
    constexpr int kStageFloats = kStageLines * kStagePitch;
    float *const floats = (float *)shared;
    const uint32_t base = shared_address(shared);
    const int lane = lane_here();
    const int part = lane & 7;   /* a place in a sector, of lines lane / 8 and 4 + lane / 8 */
    const int upper = lane >> 3; /* such a line */
    const int lane_at = upper * kStagePitch + part, plane = (int)args.output_plane;
    const struct rows_target &target = tile.target;
    const int count = kAll || residue + 1 < channels ? 2 : 1;
    struct rows_stage stage[2];
    int lines[2], offset[2], end[2], rest[2], used[2]; /* of floats */
    int from[2], to[2], bytes[2];
    float before[2][2], first_column[2];
    stage[0] = rows_stage_of(tile.first_number + residue);
    stage[1] = stage[0];
    rows_stage_next(stage[1]);
#pragma unroll
    for (int k = 0; k < 2; k++) {
        lines[k] = at_byte::stage / 4 + stage[k].index * kStageFloats;
        offset[k] = (tile.begins_at + (residue + k) * plane) & 7;
        end[k] = (offset[k] + target.length) & ~7; /* of whole sectors */
        rest[k] = (offset[k] + target.length) & 7;
        used[k] = kAll ? kStageLines : (channels - (residue + k) + kResidues - 1) / kResidues;
        before[k][0] = floats[tile.carry + (residue + k) * 64];
        before[k][1] = floats[tile.carry + (residue + k) * 64 + kHalf * 8];
        first_column[k] = floats[tile.column_from + (residue + k) * kStageLines];
        /* operands of copies: one that is not known to be uniform takes a loop */
        const int first = target.joined_head || offset[k] == 0 ? 0 : 8;
        from[k] = __shfl_sync(~0u, lines[k] + first, 0);
        to[k] = __shfl_sync(~0u, (residue + k) * plane - offset[k] + first, 0);
        bytes[k] = __shfl_sync(~0u, (end[k] - first) * 4, 0);
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        if (k == count)
            break;
        barrier_wait(base + at_byte::staged + 8 * stage[k].index, stage[k].parity);
        if (target.rows == 0)
            continue;
        if (tile.column)
            floats[lines[k] + tile.column_to + offset[k]] = first_column[k];
        if (target.joined_head && part < offset[k]) {
            floats[lines[k] + lane_at] = before[k][0];
            floats[lines[k] + lane_at + kHalf * kStagePitch] = before[k][1];
        }
        __syncwarp();
        fence_proxy_async();
        if (lane == 0) {
            float *const y = tile.y + to[k];
            const uint32_t stage_from = base + from[k] * 4;
            if (kAll)
#pragma unroll
                for (int line = 0; line < kStageLines; line++)
                    bulk_store(y + line * step, stage_from + line * (kStagePitch * 4), bytes[k]);
            else
#pragma unroll 1
                for (int line = 0; line < used[k]; line++)
                    bulk_store(y + line * step, stage_from + line * (kStagePitch * 4), bytes[k]);
            bulk_store_commit();
        }
        const float tail[2] = {floats[lines[k] + lane_at + end[k]],
                               floats[lines[k] + lane_at + end[k] + kHalf * kStagePitch]};
        if (target.joined_tail && part < rest[k]) {
            floats[tile.carry + (residue + k) * 64] = tail[0];
            floats[tile.carry + (residue + k) * 64 + kHalf * 8] = tail[1];
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
    if (count == 2) {
        if (lane == 0)
            bulk_store_wait_read<1>();
        barrier_arrive_warp(base + at_byte::stored + 8 * stage[0].index);
    }
    if (lane == 0)
        bulk_store_wait_read<0>();
    barrier_arrive_warp(base + at_byte::stored +
                        8 * (count == 2 ? stage[1].index : stage[0].index));
}

/* A storing warp's life: every other pair of stages, of the streams' tiles in turn. A function of
 * its own, for the compiler runs out of registers when it allocates it with the rest; and it is
 * these two warps' instructions, one after the other, that bound the kernel. */
static __device__ __noinline__ void rows_store(const struct rows_args &kernel_args,
                                               const struct rows_mover &place)
{
    extern __shared__ __align__(128) uint8_t shared[];
    typedef struct rows_layout at_byte;
    const struct rows_args args = kernel_args; /* in registers */
    const struct rows_mover at = place;
    const uint32_t base = shared_address(shared);
    const int lane = lane_here(), part = lane & 7, upper = lane >> 3;
    const int channels = min(kBlockChannels, args.out_channels - at.rank * kBlockChannels);
    const int residues = min(kResidues, channels); /* that have channels */
    const bool columns_wanted = args.lead && 2 * at.which < residues;
    /* from a line to the next, in y */
    const int step = __shfl_sync(~0u, kResidues * (int)args.output_plane, 0);
    uint32_t asked_parities = 0; /* of each stream */
#pragma unroll 1
    for (int turn = 0; turn < at.last - at.first; turn++) {
        const int i = turn / kStreams, s = turn % kStreams;
        const int begin = s ? at.middle : at.first;
        const int tiles = s ? at.last - at.middle : at.middle - at.first;
        const uint32_t columns = at_byte::column + (s * 2 + at.which) * kColumns * 4;
        const uint32_t asked = base + at_byte::asked + (s * 2 + at.which) * 8;
        struct rows_store_tile tile;
        tile.target = rows_target_of(args, begin, tiles, i, at.rank);
        tile.y = (float *)__shfl_sync(~0u, (unsigned long long)tile.target.y, 0);
        tile.begins_at = (int)((uintptr_t)tile.target.y >> 2 & 7);
        tile.first_number = turn * residues;
        const int row = upper - tile.target.skip; /* of column 0: a lane's row phase is `upper` */
        tile.column = args.lead && row >= 0 && row < tile.target.rows;
        tile.column_to = part * kStagePitch + row * args.output_w;
        tile.column_from = columns / 4 + (upper & 1) * kBlockChannels + part;
        tile.carry = at_byte::carry / 4 + s * kBlockChannels * 8 + lane;
        if (columns_wanted) {
            if (i % kEdgeTiles == 0) { /* it was just computed */
                const struct rows_stage stage = rows_stage_of(turn * residues + 2 * at.which);
                barrier_wait(base + at_byte::staged + 8 * stage.index, stage.parity);
                column_ask(at, s, i, base + columns, asked);
            }
            barrier_wait(asked, asked_parities >> s & 1);
            asked_parities ^= 1u << s;
        }
        if (channels == kBlockChannels) {
#pragma unroll 1
            for (int residue = 2 * at.which; residue < kResidues; residue += 4)
                stages_store<true>(args, tile, residue, channels, step);
        } else {
#pragma unroll 1
            for (int residue = 2 * at.which; residue < residues; residue += 4)
                stages_store<false>(args, tile, residue, channels, step);
        }
        if (columns_wanted && i + 1 < tiles && (i + 1) % kEdgeTiles != 0)
            column_ask(at, s, i + 1, base + columns, asked); /* it takes 1 us to come */
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
