/* The fused row kernel: transposed convolution by stride 2 on Hopper's tensor cores, softmax over
 * channels, bias, scale and sigmoid in its epilogue, for images of up to 64 columns (internal to
 * gpu/; sm_90a).
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * x and y fp32 NCHW; products of fp16 operands scaled by powers of two, sums in fp32.
 * gpu/fused_rows.cu tells what it measured and why it is built so.
 *
 * Sub-pixel form. With u = o + padding, phase = u mod 2 and a = u div 2, output o is
 *
 *     sum over j of x[a - j] * W[phase + 2 j],     phase + 2 j < kernel
 *
 * so all outputs that share (a, b), a "patch", read the same taps_h x taps_w pixels of x.
 *
 * A tile is patch row a of one image: 64 patches by 64 channels in all four phases; K = taps x 64
 * input channels. Its outputs are two whole rows of y, contiguous in every channel. Tiles are
 * numbered g = image * rows + a.
 *
 * A block holds the weights of 64 output channels; a cluster of blocks covers them all and trades
 * each pixel's sum of exponentials once a tile. A stream is a run of consecutive tiles; a block
 * works on two, half a tile apart: while one multiplies and takes exponentials the other has its
 * turn at the stages. Warps:
 *
 *     16  products and epilogue: a warpgroup for each (stream, row phase), m64n128k16
 *      2  fetch x, a stream each, a tile ahead: NCHW fp32, 16 bytes of a channel's row a lane, 16
 *         channels at once, and out of the registers eight channels of a pixel to a 16-byte store,
 *         which is the transposition and the conversion at once. A block of a cluster fetches half
 *         the channels and stores them in both rings
 *      2  take full stages to y, every other one each, by bulk copies
 *
 * Softmax without a maximum: numerators are 2^logit as they are (less the largest conv_bias). A
 * sum that leaves [2^-60, 2^120] refuses its image, which gpu/fused_repair.cuh computes again.
 *
 * The store. y's rows are 129 floats in the home case: none begins at a sector of 32 bytes, and a
 * sector that is written in two parts costs the L2 several times what a whole one does. So a tile
 * is laid out in shared memory as it will lie in y, 16 channels at a time. Channels c and c + 8
 * have the same offset in a sector; a stage takes those of two residues. Whole sectors go out by a
 * copy of 1 KB a channel; the floats behind the last whole sector are carried over to the stream's
 * next tile, where they begin the first. Only where an image or a stream begins or ends is a sector
 * written in parts. Three stages, in turn for both streams, keep the copies going all the time.
 *
 * The left edge. With padding 1 a row has 65 patches, the first with one output only, in column 0.
 * Before every 16 tiles a stream multiplies the patches (a, 0) of all of them as one more tile, of
 * which one warp's rows count, and keeps column 0 in a scratch of device memory. Their pixels, 4
 * bytes of a sector each, are collected in a strip a row a tile: at once they would hold up all.
 *
 *     shared memory                         registers of a warpgroup, warp w, lane l,
 *     ring of x, fp16, of each stream       g = l / 4, t = l % 4; j = 2 residue + h:
 *     [channel / 8][2 rows][65][8]          d[4j + 0], d[4j + 1]: patch 16w + g, channel 8 (4h + t)
 *                                                           + residue, column phases 0 and 1, for
 *                                                           t > 1 in turned order
 *     weights, fp16, resident               d[4j + 2], d[4j + 3]: patch 16w + g + 8
 *     [row phase][tap][channel / 8][column][8]
 *
 * The turned order lets a warp's stores to a stage reach all banks: even ones from t < 2, odd ones
 * from t > 1.
 *
 * No bits depend on which stream computes a tile.
 *
 * tests/test_emulated_kernels.c runs this source on the CPU, in orders that a device may never
 * show. */
#ifndef ASSAY_GPU_FUSED_ROWS_CUH
#define ASSAY_GPU_FUSED_ROWS_CUH

#include "gpu/fused_rows_args.cuh"
#include "gpu/fused_rows_mover.cuh"
#include "gpu/fused_rows_products.cuh"

typedef void (*rows_kernel_pointer)(const struct rows_args);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Barriers, the weights on their way, zeros in the rings, biases in base 2; by all threads. */
template <int kCluster>
static __device__ __forceinline__ void rows_begin(const struct rows_args &args, uint8_t *shared,
                                                  int rank)
{
    typedef struct rows_layout at_byte;
    const uint32_t base = shared_address(shared), loaded = base + at_byte::barriers;
    float *logit_bias = (float *)(shared + at_byte::params);
    float *sigmoid_bias = logit_bias + 4 * kBiasPitch;
    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        for (uint32_t at = at_byte::full; at < at_byte::total; at += 8) {
            const bool by_products = (at >= at_byte::staged && at < at_byte::stored) ||
                                     (at >= at_byte::turns && at < at_byte::asked);
            const bool by_both = at >= at_byte::done && at < at_byte::staged;
            const int warps = by_both ? 8 * kCluster : by_products ? 8 : 1;
            barrier_init(base + at, at < at_byte::asked ? warps * kWarpArrivals : 1);
        }
        barrier_init_fence();
        fence_proxy_async();
        const uint32_t bytes = 2 * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
        barrier_expect(loaded, bytes);
        const uint8_t *from = (const uint8_t *)args.weights + (int64_t)rank * bytes;
        for (uint32_t at = 0; at < bytes; at += 16384)
            bulk_load(base + at_byte::weights + at, from + at, min(bytes - at, 16384u), loaded);
    }
    for (uint32_t at = threadIdx.x * 16; at < kStreams * at_byte::kRing; at += kThreads * 16)
        *(uint4 *)(shared + at_byte::ring + at) = make_uint4(0, 0, 0, 0);
    for (int i = threadIdx.x; i < kBlockChannels; i += kThreads) { /* [lane of the quad][j] */
        const int quad = i % 4, j = i / 4;
        const int c = rank * kBlockChannels + (j % 2 * 4 + quad) * kResidues + j / 2;
        const bool real = c < args.out_channels;
        logit_bias[quad * kBiasPitch + j] =
            real ? (args.conv_bias[c] - args.origin) * LOG2_E : -INFINITY;
        sigmoid_bias[quad * kBiasPitch + j] =
            real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    fence_proxy_async();
    __syncthreads();
    if (kCluster > 1)
        cluster_sync_aligned();
}

/* The outputs in column 0, of tile m in row m of d, to the scratch, [tile][row phase][channel]; by
 * the warp that holds those rows. */
template <bool kPairs>
static __device__ __forceinline__ void edge_keep(const float (&d)[kColumns / 2],
                                                 const float (&factor)[4],
                                                 const float *sigmoid_bias, float *edges, int phase)
{
    const int lane = lane_here(), quad = lane & 3;
    float *to = edges + ((lane >> 2) * 2 + phase) * kBlockChannels + quad; /* and 8 tiles on */
#pragma unroll
    for (int j = 0; j < kColumns / 8; j++) {
        float out[4];
        sigmoids<kPairs>(out, d + 4 * j, factor, sigmoid_bias[quad * kBiasPitch + j]);
        to[4 * j] = quad < 2 ? out[1] : out[0];
        to[16 * kBlockChannels + 4 * j] = quad < 2 ? out[3] : out[2];
    }
}

/* A tile's outputs of one row phase to its stages, `stage` the first; the lane's are at `to` of a
 * stage and its line t, in the row's column `col`, and `other` floats on. All of them exist. */
template <bool kPairs>
static __device__ __forceinline__ void
stages_fill(float (&d)[kColumns / 2], const float (&factor)[4], const struct rows_args &args,
            const struct rows_target &target, const float *bias, float *to, int other,
            struct rows_stage stage, uint32_t staged, uint32_t stored)
{
    constexpr int kFloats = kStageLines * kStagePitch, kHalf = kFloats / 2;
    float out[2][8]; /* of one residue; the next, computed before its stage is free */
    residue_sigmoids<kPairs>(out[0], d, factor, bias);
#pragma unroll
    for (int residue = 0; residue < kResidues; residue++) {
        const uint32_t before = stored + 8 * stage.index, parity = stage.parity ^ 1;
        const bool free = residue % 2 || barrier_test(before, parity);
        if (residue < kResidues - 1)
            residue_sigmoids<kPairs>(out[(residue + 1) & 1], d + 8 * (residue + 1), factor,
                                     bias + 2 * (residue + 1));
        if (!free)
            barrier_wait(before, parity);
        const float *v = out[residue & 1];
        float *p =
            to + (stage.index * 2 + residue % 2) * kFloats + rows_offset(args, target, residue);
        float *q = p + other;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            p[h * kHalf] = v[4 * h];
            q[h * kHalf] = v[4 * h + 1];
            p[h * kHalf + 16] = v[4 * h + 2];
            q[h * kHalf + 16] = v[4 * h + 3];
        }
        if (residue % 2) {
            barrier_arrive_warp(staged + 8 * stage.index);
            rows_stage_next(stage);
        }
    }
}

/* The same where some don't: columns from output_w on, residues without channels, or, with `exists`
 * false, all. */
template <bool kPairs>
static __device__ __forceinline__ void
stages_fill_part(float (&d)[kColumns / 2], const float (&factor)[4], const struct rows_args &args,
                 const struct rows_target &target, const float *bias, float *to, int col, int other,
                 struct rows_stage stage, uint32_t staged, uint32_t stored, int residues,
                 bool exists)
{
    constexpr int kFloats = kStageLines * kStagePitch, kHalf = kFloats / 2;
#pragma unroll
    for (int residue = 0; residue < kResidues; residue++) {
        if (residue < residues) {
            float v[8];
            if (exists)
                residue_sigmoids<kPairs>(v, d + 8 * residue, factor, bias + 2 * residue);
            if (residue % 2 == 0)
                barrier_wait(stored + 8 * stage.index, stage.parity ^ 1);
            float *p =
                to + (stage.index * 2 + residue % 2) * kFloats + rows_offset(args, target, residue);
            float *q = p + other;
#pragma unroll
            for (int h = 0; h < 2 && exists; h++) {
                if (col < args.output_w)
                    p[h * kHalf] = v[4 * h];
                if (col + other < args.output_w)
                    q[h * kHalf] = v[4 * h + 1];
                if (col + 16 < args.output_w)
                    p[h * kHalf + 16] = v[4 * h + 2];
                if (col + other + 16 < args.output_w)
                    q[h * kHalf + 16] = v[4 * h + 3];
            }
            if (residue % 2 || residue == residues - 1) {
                barrier_arrive_warp(staged + 8 * stage.index);
                rows_stage_next(stage);
            }
        }
    }
}

#endif

template <int kCluster, bool kPairs>
static __global__ void __launch_bounds__(kThreads, 1)
    fused_rows_kernel(const __grid_constant__ struct rows_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    BLOCK_SHARED(shared);
    typedef struct rows_layout at_byte;
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + at_byte::params);
    float *sigmoid_bias = logit_bias + 4 * kBiasPitch;
    const uint32_t loaded = base + at_byte::barriers;
    const int rank = blockIdx.x % kCluster;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* known to be uniform */

    rows_begin<kCluster>(args, shared, rank);

    /* the cluster's tiles: the first half are stream 0's, from `middle` on stream 1's */
    const int cluster = blockIdx.x / kCluster;
    const int first = args.tiles_each * cluster + min(cluster, args.tiles_over);
    const int last = first + args.tiles_each + (cluster < args.tiles_over);
    const int middle = first + (last - first + 1) / 2;
    const int channels = min(kBlockChannels, args.out_channels - rank * kBlockChannels);
    constexpr int kEdgeBlock = 2 * kEdgeTiles * kColumns; /* floats */
    const int edge_stream = kCluster * kEdgeBlock;
    float *edges = args.edge + cluster * kStreams * edge_stream + rank * kEdgeBlock;

    if (warp >= kGroups * 4) {
        struct rows_mover at;
        at.shared = shared;
        at.edge = edges;
        at.edge_stream = edge_stream;
        at.first = first;
        at.middle = middle;
        at.last = last;
        at.rank = rank;
        const int mover = warp - kGroups * 4;
        at.which = mover % 2;
        if (mover < 2)
            rows_load<kCluster>(args, at);
        else
            rows_store(args, at);
    } else {
        const int group = warp / 4, s = group / 2, phase = group % 2;
        const int begin = s ? middle : first;
        const int tiles = s ? last - middle : middle - first;
        const uint32_t ring = base + at_byte::ring + s * at_byte::kRing;
        const uint32_t weights =
            base + at_byte::weights + phase * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
        const uint32_t full = base + at_byte::full + s * kRingRows * 8;
        const uint32_t done = base + at_byte::done + s * kRingRows * 8;
        const uint32_t done_other = kCluster > 1 ? cluster_map(done, rank ^ 1) : 0;
        const uint32_t staged = base + at_byte::staged, stored = base + at_byte::stored;
        const uint32_t arrived = base + at_byte::arrived + warp * 16;
        float *const stages = (float *)(shared + at_byte::stage);
        const int residues = min(kResidues, channels);
        const int tiles_theirs = last - first - tiles;
        const uint32_t strip = base + at_byte::strip + s * at_byte::kStrip;

        barrier_wait(loaded, 0);
        if (args.lead) { /* after the loading warps' first loads, which are fewer */
            edge_load(args, strip, begin, threadIdx.x % 256);
            fence_proxy_async();
            named_barrier(1 + s, 256);
        }
        uint32_t row_parities = 0; /* of the turns that the ring's rows are in */
        int row = 0;               /* the ring row of entry i */
        /* a warp's trades of sums with the other block: of its tiles, and of its edges */
        const bool has_edges = args.lead && warp % 4 == 0;
        const uint32_t our_turns = base + at_byte::turns + s * 8;
        const uint32_t their_turns = base + at_byte::turns + (s ^ 1) * 8;
        const uint32_t exchange = base + at_byte::exchange + warp * 256;
#pragma unroll 1
        for (int i = 0; i < tiles; i++) {
            float d[kColumns / 2], factor[4];
            const int row_after = row == kRingRows - 1 ? 0 : row + 1;
            const int last_row = args.taps_h == 2 ? row_after : row;
            if (i == 0) /* or what the other block sent of it might still be on its way */
                barrier_wait(full + 8 * row, 0);
            barrier_wait(full + 8 * last_row, row_parities >> last_row & 1);
            fence_proxy_async();
            if (args.lead && i % kEdgeTiles == 0) {
                multiply_edge(d, args, weights, strip);
                if (has_edges) { /* its rows of d are real */
                    if (!softmax<kCluster>(d, factor, args, logit_bias, exchange, arrived,
                                           i + i / kEdgeTiles, rank)) {
                        image_refuse(args, begin + i + (lane_here() >> 2));
                        image_refuse(args, begin + i + (lane_here() >> 2) + 8);
                    }
                    edge_keep<kPairs>(d, factor, sigmoid_bias,
                                      edges + s * edge_stream + i % (2 * kEdgeTiles) * kColumns,
                                      phase);
                }
            }
            multiply(d, args, weights, ring, row, last_row);
            if (has_edges && i % kEdgeTiles == 0) /* what edge_keep() stored is to be copied */
                fence_proxy_async_global();
            wgmma_wait<0>();
            barrier_arrive_warp(done + 8 * row);
            if (kCluster > 1)
                cluster_arrive_warp(done_other + 8 * row);
            row_parities ^= 1u << row;
            row = row_after;
            if (!softmax<kCluster>(d, factor, args, logit_bias, exchange, arrived,
                                   has_edges ? i + i / kEdgeTiles + 1 : i, rank))
                image_refuse(args, begin + i);
            const struct rows_target target =
                rows_target_of(args, rows_place_of(args, begin + i, rank), i, tiles);
            const bool exists = phase >= target.skip && phase < target.skip + target.rows;
            const int lane = lane_here(), quad = lane & 3;
            const int patch = 16 * (warp & 3) + (lane >> 2); /* and 8 more */
            const int turned = quad >> 1;
            const int col = args.lead + 2 * patch + turned; /* of d[4j] */
            const int other = 1 - 2 * turned;               /* from there to d[4j + 1]'s */
            const float *bias = sigmoid_bias + quad * kBiasPitch;
            float *to = stages + quad * kStagePitch + (phase - target.skip) * args.output_w + col;
            const struct rows_stage stage = rows_stage_of((2 * i + s) * ((residues + 1) / 2));
            turn_wait(their_turns, i - (s == 0), tiles_theirs);
            if (exists && residues == kResidues && args.output_w >= args.lead + 128)
                stages_fill<kPairs>(d, factor, args, target, bias, to, other, stage, staged,
                                    stored);
            else
                stages_fill_part<kPairs>(d, factor, args, target, bias, to, col, other, stage,
                                         staged, stored, residues, exists);
            barrier_arrive_warp(our_turns);
        }
    }
    /* a block's shared memory lives until its neighbour has sent */
    if (kCluster > 1)
        cluster_sync();
#endif
}

#endif
