/* The fused row kernel: transposed convolution by stride 2 on Hopper's tensor cores, softmax over
 * channels, bias, scale and sigmoid in its epilogue, for images of up to 64 columns (internal to
 * gpu/; sm_90a).
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * x and y fp32 NCHW; sums in fp32. Two forms, by the constant kParts of the file that includes
 * this:
 *
 *     1   gpu/fused_rows.cu      products of fp16 operands scaled by powers of two
 *     2   gpu/fused_rows_x3.cu   operands split, x W ~ low(x) high(W) + high(x) low(W) + high(x)
 *                                high(W), with high(v) = fp16(v), low(v) = fp16(v - high(v)): fp32
 *                                grade. What is left out is low * low, 2^-22 of a product
 *
 * gpu/fused_rows.cu tells what it measured and why it is built so.
 *
 * Sub-pixel form. With u = o + padding, phase = u mod 2 and a = u div 2, output o is
 *
 *     sum over j of x[a - j] * W[phase + 2 j],     phase + 2 j < kernel
 *
 * so all outputs that share (a, b), a "patch", read the same taps_h x taps_w pixels of x.
 *
 * A tile is patch row a of one image: 64 patches by 64 / kParts channels in all four phases; K =
 * taps x 64 input channels. Its outputs are two whole rows of y, contiguous in every channel. Tiles
 * are numbered g = image * rows + a; a cluster takes a run of them.
 *
 * A block holds the weights of its channels, in all their parts; a cluster of up to 2 kParts blocks
 * covers the channels and trades each pixel's sum of exponentials once a tile. A block's streams
 * take its tiles in turn: while one multiplies others take exponentials and fill stages. Warps:
 *
 *     16  products and epilogue, m64n128k16: with one part two streams of a warpgroup for each row
 *         phase, with two parts four streams of a warpgroup, whose product has both row phases
 *      2  fetch x, every other row each: NCHW fp32, 16 bytes of a channel's row a lane, 16 channels
 *         at once, and out of the registers eight channels of a pixel to a 16-byte store, which is
 *         the transposition and the conversion at once. A block of a cluster fetches its share of
 *         the channels and sends them to the others by one copy each
 *      2  take full stages to y, every other one each, by bulk copies
 *
 * Softmax without a maximum: numerators are 2^logit as they are (less the largest conv_bias). A
 * sum that leaves [2^-60, 2^120] refuses its image, which gpu/fused_repair.cuh computes again.
 *
 * The ring of x. Entry e is the patch row of the block's tile e - 1; tile t reads entries t, in the
 * first half of its products, and t + 1. Three rows: entry e comes when tile e - 4 and half of tile
 * e - 3 have multiplied.
 *
 * The store. y's rows are 129 floats in the home case: none begins at a sector of 32 bytes, and a
 * sector that is written in two parts costs the L2 several times what a whole one does. So a tile
 * is laid out in shared memory as it will lie in y. Channels that differ by a multiple of 8, of one
 * residue, have the same offset in a sector; a stage takes those of two residues, and the four
 * stages a whole tile. Whole sectors go out by a copy of 1 KB a channel; the floats behind the last
 * whole sector are carried over in the storing warps' registers to the next tile, where they begin
 * the first. Only where an image or a cluster's run begins or ends is a sector written in parts.
 *
 * The left edge. With padding 1 a row has 65 patches, the first with one output only, in column 0.
 * Every kEdgeTiles tiles the stream whose turn it is multiplies the patches (a, 0) of the next ones
 * as one more tile, of which one warp's rows count, and keeps column 0 in a scratch of device
 * memory. Their pixels, 4 bytes of a sector each, are collected in a strip a row a tile: at once
 * they would hold up all.
 *
 *     shared memory, fp16                        registers of a warpgroup, warp w, lane l,
 *     ring of x                                  g = l / 4, t = l % 4; j = 2 residue + h:
 *     [3 rows][channel / 8][part][65][8]         d[4j + 0], d[4j + 1]: patch 16w + g, column phases
 *                                                0 and 1, for odd t in turned order; of the
 *     weights, resident                          residue's line t + 4h, or with two parts line t,
 *     [row phase or part][tap]                   row phase h
 *     [channel / 8][column][8]                   d[4j + 2], d[4j + 3]: patch 16w + g + 8
 *
 * The turned order lets a warp's stores to a stage, whose lines are 264 floats apart, reach all
 * banks: even ones from even t, odd ones from odd t.
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
    float *sigmoid_bias = logit_bias + kBiases;
    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        for (uint32_t at = at_byte::full; at < at_byte::total; at += 8) {
            const int warps = at < at_byte::strips   ? 1
                              : at < at_byte::half   ? kEdgeTiles - 1
                              : at < at_byte::staged ? kStreamWarps * kCluster
                              : at < at_byte::stored ? kStreamWarps
                              : at < at_byte::ready  ? 1
                                                     : max(kCluster - 1, 1);
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
    for (uint32_t at = threadIdx.x * 16; at < at_byte::kRing; at += kThreads * 16)
        *(uint4 *)(shared + at_byte::ring + at) = make_uint4(0, 0, 0, 0);
    for (int i = threadIdx.x; i < kBlockChannels; i += kThreads) { /* [lane of the quad][residue,
                                                                      half of its lines] */
        constexpr int kHalves = kStageLines / 4;
        const int quad = i % 4, j = i / 4;
        const int c = rank * kBlockChannels + (j % kHalves * 4 + quad) * kResidues + j / kHalves;
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

/* A warp's arrival at a barrier of the other blocks of the cluster, and of this one too. */
template <int kCluster>
static __device__ __forceinline__ void arrive_others(uint32_t barrier, int rank)
{
#pragma unroll
    for (int k = 1; k < kCluster; k++)
        cluster_arrive_warp(cluster_map(barrier, (rank + k) % kCluster));
}

template <int kCluster>
static __device__ __forceinline__ void arrive_all(uint32_t barrier, int rank)
{
    barrier_arrive_warp(barrier);
    arrive_others<kCluster>(barrier, rank);
}

/* The outputs in column 0, of tile m in row m of the edge's product, to the scratch, [tile][row
 * phase][residue][line]; by the warp that holds those rows. Pairs of sigmoids are of one tile: or
 * bits would depend on where its image lies in the batch, and a NaN would reach another image. */
template <bool kPairs>
static __device__ __forceinline__ void edge_keep(const float (&e)[kColumns / 4],
                                                 const float (&factor)[kRowPhases][2],
                                                 const float *sigmoid_bias, float *edges, int phase)
{
    const int lane = lane_here(), quad = lane & 3, tile = lane >> 2; /* and 8 more */
    float *to = edges + (tile * 2 + phase) * kBlockChannels + quad;
    constexpr int kAfter = kRowPhases - 1; /* the row phase of a pair's second */
    constexpr int kStep = 2 / kRowPhases;  /* channels of a pair */
#pragma unroll
    for (int j = 0; j < kBiasEach; j += kStep) {
        const float bias = sigmoid_bias[quad * kBiasPitch + j];
        const float bias_after = sigmoid_bias[quad * kBiasPitch + j + kStep - 1];
        const int k = 2 * j * kRowPhases;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float a, b;
            sigmoid_pair<kPairs>(a, b, fmaf(e[k + i], factor[0][i], bias),
                                 fmaf(e[k + 2 + i], factor[kAfter][i], bias_after));
            if (tile + 8 * i < kEdgeTiles) {
                to[16 * i * kBlockChannels + 4 * j] = a;
                to[(16 * i + kAfter) * kBlockChannels + 4 * (j + kStep - 1)] = b;
            }
        }
    }
}

/* Where a lane's outputs of a tile go in the stages. */
struct rows_fill {
    float *to; /* those of d[4j]: of the first stage and its line t, less the residue's offset */
    int col;   /* their column */
    int other; /* from there to d[4j + 1]'s */
    int high;  /* and to the upper half's of a residue's eight: four lines, or a row */
    /* barriers of the stages, and their phases */
    uint32_t staged;       /* this tile's */
    uint32_t before, then; /* those of the tile before, which lies in the stages */
    uint32_t stored, free; /* when it is stored; only then one of its phases is not an older one */
};

/* Whether a stage is free. */
static __device__ __forceinline__ bool stage_test(const struct rows_fill &fill, int stage)
{
    return barrier_test(fill.before + 8 * stage, fill.then) &&
           barrier_test(fill.stored + 8 * stage, fill.free);
}

static __device__ __forceinline__ void stage_wait(const struct rows_fill &fill, int stage)
{
    barrier_wait(fill.before + 8 * stage, fill.then);
    barrier_wait(fill.stored + 8 * stage, fill.free);
}

/* A tile's outputs of a warpgroup's row phases to the stages. All of them exist. */
template <bool kPairs>
static __device__ __forceinline__ void
stages_fill(float (&d)[kColumns / 2], const float (&factor)[kRowPhases][4],
            const struct rows_args &args, const struct rows_target &target,
            const struct rows_fill &fill, const float *bias)
{
    constexpr bool kEarly = kParts == 1; /* a residue's outputs before its stage is free */
    float out[2][8];
    struct rows_biases next = biases_load(bias, kEarly ? 1 : 0); /* behind stores, loads are slow */
    if (kEarly)
        residue_sigmoids<kPairs>(out[0], d, factor, biases_load(bias, 0));
#pragma unroll
    for (int residue = 0; residue < kResidues; residue++) {
        const int ahead = kEarly ? residue + 1 : residue;
        const struct rows_biases b = next;
        if (ahead + 1 < kResidues)
            next = biases_load(bias, ahead + 1);
        const bool is_free = residue % 2 || stage_test(fill, residue / 2);
        if (ahead < kResidues)
            residue_sigmoids<kPairs>(out[ahead & 1], d + 8 * ahead, factor, b);
        if (!is_free)
            stage_wait(fill, residue / 2);
        const float *v = out[residue & 1];
        float *p = fill.to + rows_line(residue) + rows_offset(args, target, residue);
        float *q = p + fill.other;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int high = h * (kParts == 1 ? 4 * kStagePitch : fill.high);
            p[high] = v[4 * h];
            q[high] = v[4 * h + 1];
            p[high + 16] = v[4 * h + 2];
            q[high + 16] = v[4 * h + 3];
        }
        if (residue % 2)
            barrier_arrive_warp(fill.staged + 8 * (residue / 2));
    }
}

/* The same where some don't: columns from output_w on, residues without channels, halves that are
 * not in `halves`. */
template <bool kPairs>
static __device__ __forceinline__ void
stages_fill_part(float (&d)[kColumns / 2], const float (&factor)[kRowPhases][4],
                 const struct rows_args &args, const struct rows_target &target,
                 const struct rows_fill &fill, const float *bias, int residues, int halves)
{
#pragma unroll
    for (int residue = 0; residue < kResidues; residue++) {
        if (residue < residues) {
            float v[8];
            if (halves)
                residue_sigmoids<kPairs>(v, d + 8 * residue, factor, biases_load(bias, residue));
            if (residue % 2 == 0)
                stage_wait(fill, residue / 2);
            float *p = fill.to + rows_line(residue) + rows_offset(args, target, residue);
            float *q = p + fill.other;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int high = h * fill.high, width = halves >> h & 1 ? args.output_w : 0;
                if (fill.col < width)
                    p[high] = v[4 * h];
                if (fill.col + fill.other < width)
                    q[high] = v[4 * h + 1];
                if (fill.col + 16 < width)
                    p[high + 16] = v[4 * h + 2];
                if (fill.col + fill.other + 16 < width)
                    q[high + 16] = v[4 * h + 3];
            }
            if (residue % 2 || residue == residues - 1)
                barrier_arrive_warp(fill.staged + 8 * (residue / 2));
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
    float *sigmoid_bias = logit_bias + kBiases;
    const uint32_t loaded = base + at_byte::barriers;
    const int rank = blockIdx.x % kCluster;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* known to be uniform */

    const int cluster = blockIdx.x / kCluster; /* its tiles: */
    const int first = args.tiles_each * cluster + min(cluster, args.tiles_over);
    const int tiles = args.tiles_each + (cluster < args.tiles_over);

    /* the first loads take 10 us where the L2 is full of what an earlier kernel wrote */
    if (warp >= kGroups * 4)
        rows_prefetch<kCluster>(args, first, rank, warp - kGroups * 4);
    else if (args.lead)
        edge_prefetch(args, first, threadIdx.x);
    rows_begin<kCluster>(args, shared, rank);

    const int channels = min(kBlockChannels, args.out_channels - rank * kBlockChannels);
    constexpr int kEdge = 2 * kBlockChannels; /* floats of a tile */
    float *edges = args.edge + blockIdx.x * (2 * kEdgeTiles * kEdge);

    if (warp >= kGroups * 4) {
        struct rows_mover at;
        at.shared = shared;
        at.edge = edges;
        at.first = first;
        at.tiles = tiles;
        at.rank = rank;
        const int mover = warp - kGroups * 4;
        at.which = mover % 2;
        if (mover < kLoaders)
            rows_load<kCluster>(args, at);
        else
            rows_store(args, at);
    } else {
        const int group = warp / 4, s = warp / kStreamWarps; /* the stream */
        const int phase = kRowPhases == 1 ? group % 2 : 0;   /* the first of its row phases */
        const uint32_t ring = base + at_byte::ring, strip = base + at_byte::strip;
        const uint32_t weights = base + at_byte::weights + phase * kWeightPart * 16;
        const uint32_t full = base + at_byte::full;
        const uint32_t ready = base + at_byte::ready + group * 8;
        float *const stages = (float *)(shared + at_byte::stage);
        const int residues = min(kResidues, channels);
        const bool has_edges = args.lead && warp % 4 == 0; /* its rows of their product are real */

        barrier_wait(loaded, 0);
        if (args.lead) { /* after the loading warps' first loads */
            edge_load(args, strip, first, threadIdx.x);
            fence_proxy_async();
        }
        if (kStreams > kRingRows) /* or the last stream's first wait, for the second entry in the */
            barrier_wait(full, 0); /* first row, could end while that row waits for its first */
        named_barrier(1, kGroups * 128);
#pragma unroll 1
        for (int t = s; t < tiles; t += kStreams) {
            float d[kColumns / 2], factor[kRowPhases][4];
            const int row = t % kRingRows, next_row = (t + 1) % kRingRows; /* its entries' */
            /* zeros of a missing tap meet the same image */
            const int first_row = args.taps_h == 2 ? row : next_row;
            barrier_wait(full + 8 * row, t / kRingRows & 1);
            barrier_wait(full + 8 * next_row, (t + 1) / kRingRows & 1);
            const bool edge = args.lead && t % kEdgeTiles == 0;
            if (edge && t > 0)
                barrier_wait(base + at_byte::strips, (t / kEdgeTiles - 1) & 1);
            fence_proxy_async();
            if (edge) {
                multiply_edge(d, args, weights, strip);
                if (has_edges) {
                    float e[kColumns / 4], edge_factor[kRowPhases][2];
                    bool in_range[2];
                    struct rows_trade trade;
                    trade.exchange = base + at_byte::exchange + warp * at_byte::kExchange;
                    trade.arrived = base + at_byte::edge_arrived + warp * 8;
                    trade.phase = t / kEdgeTiles / kStreams & 1;
                    trade.rank = rank;
                    arrive_others<kCluster>(ready, rank); /* their last sums are read */
                    edge_softmax<kCluster>(e, edge_factor, in_range, d, args, logit_bias, trade,
                                           ready, t / kEdgeTiles / kStreams & 1);
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int tile = (lane_here() >> 2) + 8 * i;
                        if (!in_range[i] && tile < min(kEdgeTiles, tiles - t))
                            image_refuse(args, first + t + tile);
                    }
                    edge_keep<kPairs>(e, edge_factor, sigmoid_bias,
                                      edges + t % (2 * kEdgeTiles) * kEdge, phase);
                }
            }
            multiply(d, args, weights, ring, first_row, next_row);
            if (has_edges && edge) /* what edge_keep() stored is to be copied */
                fence_proxy_async_global();
            const uint32_t turn = base + t % kTurns * 8, half = turn + at_byte::half;
            wgmma_wait<1>();
            arrive_all<kCluster>(half, rank);
            wgmma_wait<0>();
            arrive_all<kCluster>(turn + at_byte::done, rank);
            struct rows_trade trade;
            trade.exchange = base + at_byte::exchange + warp * at_byte::kExchange;
            trade.arrived = base + at_byte::arrived + warp * 8;
            trade.phase = t / kStreams & 1;
            trade.rank = rank;
            if (!softmax<kCluster>(d, factor, args, logit_bias, trade, half, t / kTurns & 1))
                image_refuse(args, first + t);
            const struct rows_target target =
                rows_target_of(args, rows_place_of(args, first + t, rank), t, tiles);
            const int lane = lane_here(), quad = lane & 3;
            const int patch = 16 * (warp & 3) + (lane >> 2); /* and 8 more */
            const int turned = quad & 1;
            const bool exists = phase >= target.skip && phase < target.skip + target.rows;
            struct rows_fill fill;
            fill.col = args.lead + 2 * patch + turned;
            fill.other = 1 - 2 * turned;
            fill.high = kParts == 1 ? 4 * kStagePitch : args.output_w;
            fill.to =
                stages + quad * kStagePitch + (phase - target.skip) * args.output_w + fill.col;
            fill.staged = base + at_byte::staged + t % kTurns * (kStages * 8);
            fill.before = base + at_byte::staged + (t + kTurns - 1) % kTurns * (kStages * 8);
            fill.then = ((t + kTurns - 1) / kTurns & 1) ^ 1; /* the first tile waits for nothing */
            fill.stored = base + at_byte::stored;
            fill.free = (t & 1) ^ 1;
            const int halves = kParts == 1 ? (exists ? 3 : 0)
                               : target.rows == 2
                                   ? 3
                                   : target.rows << target.skip; /* one row: which of them */
            const float *bias = sigmoid_bias + quad * kBiasPitch;
            if (halves == 3 && residues == kResidues && args.output_w >= args.lead + 128)
                stages_fill<kPairs>(d, factor, args, target, fill, bias);
            else
                stages_fill_part<kPairs>(d, factor, args, target, fill, bias, residues, halves);
        }
    }
    /* a block's shared memory lives until its neighbour has sent */
    if (kCluster > 1)
        cluster_sync();
#endif
}

#endif
