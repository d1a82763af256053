/* The fused row kernel's movers: x, NCHW fp32, into the ring, [channel / 8][row][slot][8] fp16;
 * full stages to y (internal to gpu/; gpu/fused_rows.cuh has the whole picture). */
#ifndef ASSAY_GPU_FUSED_ROWS_MOVER_CUH
#define ASSAY_GPU_FUSED_ROWS_MOVER_CUH

#include "gpu/fused_rows_args.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* One warp: half the channels of the patch row of tile g into the ring's row `slot_row`, once
 * `done`, the barrier behind the last tile that read it, allows. Returns the largest magnitude, as
 * bits. */
static __device__ __forceinline__ uint32_t rows_fetch(const struct rows_args &args, uint32_t ring,
                                                      int slot_row, int g, int half, uint32_t done,
                                                      uint32_t done_parity)
{
    const int lane = threadIdx.x & 31;
    const int first = half * (kChannelGroups / 2); /* group of eight channels */
    uint32_t largest = 0;
    int image, row;
    const bool exists = rows_find(args, g, image, row);
    const int channels = exists ? args.in_channels - first * 8 : 0;
    const int plane = (int)args.input_plane;
    const float *x = args.x + ((int64_t)image * args.in_channels + first * 8) * args.input_plane +
                     row * args.width;
    const int col[2] = {min(lane, args.width - 1), min(lane + 32, args.width - 1)};
    float value[2][32];
    if (channels >= 32) {
#pragma unroll
        for (int q = 0; q < 32; q++) {
            value[0][q] = __ldg(x + q * plane + col[0]);
            value[1][q] = __ldg(x + q * plane + col[1]);
        }
    } else {
#pragma unroll
        for (int q = 0; q < 32; q++) {
            value[0][q] = q < channels ? __ldg(x + q * plane + col[0]) : 0.0f;
            value[1][q] = q < channels ? __ldg(x + q * plane + col[1]) : 0.0f;
        }
    }
    barrier_wait(done, done_parity);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int part = 0; part < 2; part++) { /* of the row */
            const int slot = part * 32 + lane - args.first_col;
            uint32_t packed[4];
#pragma unroll
            for (int q = 0; q < 4; q++)
                packed[q] = rows_pack(value[part][8 * i + 2 * q], value[part][8 * i + 2 * q + 1],
                                      args.x_scale, largest);
            if (slot >= 0 && slot < kSlots && part * 32 + lane < args.width)
                shared_store(ring + (((first + i) * kRingRows + slot_row) * kSlots + slot) * 16u,
                             packed);
        }
    return largest;
}

/* Half of a mover's part of the patch row of tile g to the L2, where rows_fetch() finds it a tile
 * later: beside so many writes a load from device memory takes 2 us and more. */
static __device__ __forceinline__ void rows_prefetch(const struct rows_args &args, int g, int half,
                                                     int rank)
{
    const int lane = threadIdx.x & 31;
    const int channel = half * 32 + rank % 2 * 16 + lane / 2, col = lane % 2 * 32;
    int image, row;
    if (rows_find(args, g, image, row) && channel < args.in_channels && col < args.width)
        asm volatile("prefetch.global.L2 [%0];" ::"l"(
            args.x + ((int64_t)image * args.in_channels + channel) * args.input_plane +
            (row * args.width + col)));
}

/* 16 bytes to y. NOTE: the compiler no longer knows that y is global, and would ask each time. */
static __device__ __forceinline__ void global_store(float *to, const float4 &v)
{
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z),
                 "f"(v.w)
                 : "memory");
}

/* What a mover warp knows of its place. */
struct rows_mover {
    float *stages;
    float *carry;      /* what the previous tile left, in the order of the columns */
    float *column;     /* column 0 of the tile, [row phase][own residue][line] */
    const float *edge; /* where that comes from */
    uint32_t ring;
    uint32_t full, done;     /* [ring row] */
    uint32_t staged, stored; /* [stage] */
    int begin, tiles, rank;
    int parity; /* of its residues; the half of the channels of x */
};

/* Column 0 of tile i from the scratch to shared memory. */
static __device__ __forceinline__ void column_load(const struct rows_mover &at, int i)
{
    const int lane = threadIdx.x & 31;
    const float2 v =
        __ldcg((const float2 *)(at.edge + ((i % kEdgeTiles) * 2 + lane / 16) * kBlockChannels +
                                (2 * (lane % 16 / 4) + at.parity) * kStageLines + lane % 4 * 2));
    ((float2 *)at.column)[lane] = v;
    __syncwarp();
}

/* One full stage to y. */
static __device__ __forceinline__ void stage_store(const struct rows_args &args,
                                                   const struct rows_mover &at,
                                                   const struct rows_target &target, int i,
                                                   int residue, uint32_t use)
{
    constexpr int kHalf = kStageLines / 2;
    const int lane = threadIdx.x & 31;
    const int part = lane & 7;   /* a place in a sector, of lines lane / 8 and 4 + lane / 8 */
    const int upper = lane >> 3; /* such a line; for column 0, the row phase if < 2 */
    const int channels = min(kBlockChannels, args.out_channels - at.rank * kBlockChannels);
    const int line_step = kResidues * (int)args.output_plane; /* from a line to the next, in y */
    const int offset = rows_offset(args, target, residue);
    const int end = (offset + target.length) & ~7, rest = (offset + target.length) & 7;
    float *const y = target.y + (residue * args.output_plane - offset);
    float *const kept = at.carry + (residue * kStageLines + upper) * 8 + part;
    const uint32_t stage = use % kStages;
    float *const lines = at.stages + stage * (kStageLines * kStagePitch);
    float *const part_line = lines + upper * kStagePitch + part;
    const float before[2] = {kept[0], kept[kHalf * 8]};

    barrier_wait(at.staged + 8 * stage, use / kStages & 1);
    if (args.lead) {
        if (residue == at.parity && i % kEdgeTiles == 0)
            column_load(at, i); /* it was just computed */
        if (upper >= target.skip && upper < target.skip + target.rows)
            lines[part * kStagePitch + offset + (upper - target.skip) * args.output_w] =
                at.column[upper * (kBlockChannels / 2) + residue / 2 * kStageLines + part];
    }
    if (target.joined_head && part < offset) {
        part_line[0] = before[0];
        part_line[kHalf * kStagePitch] = before[1];
    }
    __syncwarp();
    const float tail[2] = {part_line[end], part_line[kHalf * kStagePitch + end]};
    if (target.inner &&
        channels == kBlockChannels) { /* whole sectors [0, end): 256 or 264 floats */
        const float4 *from = (const float4 *)lines + lane;
        float *to = y + 4 * lane;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float4 *half_from = from + k % 2 * kHalf * (kStagePitch / 4) + k / 2 * 32;
            float *half_to = to + k % 2 * kHalf * line_step + k / 2 * 128;
            float4 v[kHalf];
#pragma unroll
            for (int line = 0; line < kHalf; line++)
                v[line] = half_from[line * (kStagePitch / 4)];
#pragma unroll
            for (int line = 0; line < kHalf; line++)
                global_store(half_to + line * line_step, v[line]);
        }
        if (end > 256 && lane < 2 * kStageLines) {
            const int line = lane >> 1, from_at = 256 + 4 * (lane & 1);
            global_store(y + line * line_step + from_at,
                         *(const float4 *)(lines + line * kStagePitch + from_at));
        }
        if (part < rest) {
            kept[0] = tail[0];
            kept[kHalf * 8] = tail[1];
        }
    } else { /* the first or the last of an image or a stream, or not all channels */
        const int used = (channels - residue + kResidues - 1) / kResidues; /* lines */
        const int first = target.joined_head || offset == 0 ? 0 : 8;
#pragma unroll 1
        for (int line = 0; line < used; line++)
#pragma unroll 1
            for (int k = first + 4 * lane; k < end; k += 128)
                global_store(y + line * line_step + k,
                             *(const float4 *)(lines + line * kStagePitch + k));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int line = half * kHalf + upper;
            if (first && part >= offset && line < used)
                y[line * line_step + part] = part_line[half * kHalf * kStagePitch];
            if (part < rest && target.joined_tail)
                kept[half * kHalf * 8] = tail[half];
            else if (part < rest && line < used)
                y[line * line_step + end + part] = tail[half];
        }
    }
    __syncwarp();
    if (lane == 0)
        barrier_arrive(at.stored + 8 * stage);
}

/* A mover warp's life: the stages of one parity to y as they fill, half the channels of x into the
 * ring. Entry j of the ring holds the patch row of tile begin + j - (taps_h - 1). */
static __device__ void rows_move(const struct rows_args &args, const struct rows_mover &at)
{
    const int lane = threadIdx.x & 31;
    const int residues =
        min(kResidues, args.out_channels - at.rank * kBlockChannels); /* that have channels */
    const int ahead = args.taps_h; /* entries beyond tile i's first, until the next to fetch */
    const int entries = at.tiles ? at.tiles + args.taps_h - 1 : 0;
    int slot_row = 0;
    uint32_t done_parity = 1, used = 0; /* stages before this tile */
#pragma unroll 1
    for (int i = -ahead; i < at.tiles; i++) {
        if (i + ahead < entries) {          /* fetch, while there is nothing to store */
            const int g = at.begin + i + 1; /* the tile whose patch row it is */
            rows_prefetch(args, g + 1, at.parity, at.rank);
            uint32_t largest = rows_fetch(args, at.ring, slot_row, g, at.parity,
                                          at.done + 8 * slot_row, done_parity);
            fence_proxy_async();
            __syncwarp();
            if (lane == 0)
                barrier_arrive(at.full + 8 * slot_row);
            largest = __reduce_max_sync(~0u, largest); /* for gpu/fused_repair.cuh */
            int image, row;
            if (rows_find(args, g, image, row) && at.rank == 0 && lane == 0)
                atomicMax(args.image_max + image, largest);
            slot_row = slot_row == kRingRows - 1 ? 0 : slot_row + 1;
            done_parity ^= slot_row == 0;
        }
        if (i < 0)
            continue;
        const struct rows_target target = rows_target_of(args, at.begin, at.tiles, i, at.rank);
        if (target.rows == 0)
            continue;
        if (args.lead && i % kEdgeTiles != 0)
            column_load(at, i);
#pragma unroll 1
        for (int residue = at.parity; residue < residues; residue += 2)
            stage_store(args, at, target, i, residue, used + residue);
        used += residues;
    }
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

#endif
