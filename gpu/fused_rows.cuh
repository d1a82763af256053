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
 * each pixel's maximum and sum once a tile. A stream is a run of consecutive tiles; a block works
 * on two. Warps:
 *
 *     16  products and epilogue: a warpgroup for each (stream, row phase), m64n128k16
 *      4  two for each stream. They take its results to y, in turn; and while the next tile's
 *         products and softmax run and there is nothing to store, they fetch x, a row ahead:
 *         NCHW fp32, a lane a pixel, eight coalesced loads to a 16-byte store, which is the
 *         transposition and the conversion at once
 *
 * The store. y's rows are 129 floats in the home case: none begins at a sector of 32 bytes, and a
 * sector that is written in two parts costs the L2 several times what a whole one does. So a tile
 * is laid out in shared memory as it will lie in y, eight channels at a time. Channels c and c + 8
 * have the same offset in a sector; a stage takes those of one residue. Whole sectors go out by 512
 * bytes an instruction; the floats behind the last whole sector are carried over to the stream's
 * next tile, where they begin the first. Only where an image or a stream begins or ends is a sector
 * written in parts.
 *
 * The left edge. With padding 1 a row has 65 patches, the first with one output only, in column 0.
 * Before every 64 tiles a stream multiplies the patches (a, 0) of all of them as one more tile and
 * keeps column 0 in a scratch of device memory.
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
 * No bits depend on which stream computes a tile. */
#ifndef ASSAY_GPU_FUSED_ROWS_CUH
#define ASSAY_GPU_FUSED_ROWS_CUH

#include "gpu/fused_rows_args.cuh"
#include "gpu/fused_rows_mover.cuh"
#include "gpu/fused_rows_products.cuh"

typedef void (*rows_kernel_pointer)(const struct rows_args);

template <int kCluster, bool kPairs>
static __global__ void __launch_bounds__(kThreads, 1)
    fused_rows_kernel(const __grid_constant__ struct rows_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(128) uint8_t shared[];
    typedef struct rows_layout at_byte;
    const uint32_t base = shared_address(shared);
    float *logit_bias = (float *)(shared + at_byte::params);
    float *sigmoid_bias = logit_bias + 4 * kBiasPitch;
    const uint32_t loaded = base + at_byte::barriers;
    const int rank = blockIdx.x % kCluster;
    const int streams = gridDim.x / kCluster * kStreams;
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0); /* known to be uniform */
    const int group = warp / 4;
    const int s = group < kGroups ? group / 2 : warp % kStreams, phase = group % 2;
    const int64_t stream = (int64_t)(blockIdx.x / kCluster) * kStreams + s;
    /* barriers of this stream, and of this warp */
    const uint32_t full = loaded + 8 + s * kStreamBarriers * 8; /* [ring row] */
    const uint32_t done = full + 8 * kRingRows;                 /* [ring row] */
    const uint32_t staged = done + 8 * kRingRows;               /* [stage] */
    const uint32_t stored = staged + 8 * kStages;               /* [stage] */
    const uint32_t arrived = loaded + 8 + kStreams * kStreamBarriers * 8 + warp * 16;

    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        const int arrivals[kStreamBarriers] = {2, 2, 8, 8, 8, 8, 8, 1, 1, 1};
        for (int i = 0; i < kStreams * kStreamBarriers; i++)
            barrier_init(loaded + 8 + 8 * i, arrivals[i % kStreamBarriers]);
        for (int i = 0; i < kGroups * 4 * 2; i++)
            barrier_init(loaded + 8 + (kStreams * kStreamBarriers + i) * 8, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
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
        logit_bias[quad * kBiasPitch + j] = real ? args.conv_bias[c] * LOG2_E : -INFINITY;
        sigmoid_bias[quad * kBiasPitch + j] =
            real ? -LOG2_E * (args.scaling_factor * args.bias[c]) : 0.0f;
    }
    fence_proxy_async();
    __syncthreads();
    if (kCluster > 1)
        asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");

    const int begin = (int)(args.tiles * stream / streams);
    const int tiles = (int)(args.tiles * (stream + 1) / streams) - begin;
    const int channels = min(kBlockChannels, args.out_channels - rank * kBlockChannels);
    float *stages = (float *)(shared + at_byte::stage + s * kStages * at_byte::kStage);
    float *edges = args.edge + (stream * kCluster + rank) * (kEdgeTiles * 2 * kBlockChannels);

    if (group == kGroups) {
        const int which = warp % 4 / kStreams;
        struct rows_mover at;
        at.stages = stages;
        at.carry = (float *)(shared + at_byte::carry) + s * kBlockChannels * 8;
        at.column = (float *)(shared + at_byte::column) + (s * 2 + which) * kBlockChannels;
        at.edge = edges;
        at.ring = base + at_byte::ring + s * at_byte::kRing;
        at.full = full;
        at.done = done;
        at.staged = staged;
        at.stored = stored;
        at.begin = begin;
        at.tiles = tiles;
        at.rank = rank;
        at.parity = which;
        rows_move(args, at);
    } else {
        const int lane = threadIdx.x & 31, quad = lane & 3;
        const int patch = 16 * (warp & 3) + (lane >> 2); /* and 8 more */
        const uint32_t ring = base + at_byte::ring + s * at_byte::kRing;
        const uint32_t weights =
            base + at_byte::weights + phase * FUSED_MAX_TAPS * kChannelGroups * kColumns * 16;
        const int residues = min(kResidues, channels);
        const int turned = quad >> 1;
        const int col = args.lead + 2 * patch + turned; /* of d[4j] */
        const int other = 1 - 2 * turned;               /* from there to d[4j + 1]'s */

        barrier_wait(loaded, 0);
        /* One register: the parity of how often each stage was filled, of the turns that the ring's
         * rows are in, and whether the left edge of these tiles is done. */
        uint32_t bits = 0;
        constexpr int kStageBit = 0, kRowBit = kStages, kEdgeBit = kStages + kRingRows;
        int row = 0, stage = 0; /* the ring row of entry i, the next stage */
#pragma unroll 1
        for (int i = 0, turn = 0; i < tiles; turn++) {
            float d[kColumns / 2], factor[4];
            const bool edge = args.lead && i % kEdgeTiles == 0 && !(bits >> kEdgeBit & 1);
            const int row_after = row == kRingRows - 1 ? 0 : row + 1;
            if (edge) {
#pragma unroll
                for (int k = 0; k < kStages; k++) /* until they have been stored */
                    barrier_wait(stored + 8 * k, ~bits >> (kStageBit + k) & 1);
                const uint32_t strip = base + at_byte::stage + s * kStages * at_byte::kStage +
                                       phase * kChannelGroups * kSlots * 16;
                edge_load(args, strip, begin + i);
                fence_proxy_async();
                asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
                multiply_edge(d, args, weights, strip);
            } else {
                const int last = args.taps_h == 2 ? row_after : row;
                barrier_wait(full + 8 * last, bits >> (kRowBit + last) & 1);
                multiply(d, args, weights, ring, row, last);
                wgmma_wait<0>();
                if (lane == 0)
                    barrier_arrive(done + 8 * row);
            }
            softmax<kCluster>(d, factor, args, logit_bias, base + at_byte::exchange + warp * 512,
                              arrived, turn, rank);
            if (edge) {
                float *to = edges + (patch * 2 + phase) * kBlockChannels + quad;
#pragma unroll
                for (int j = 0; j < kColumns / 8; j++) {
                    float out[4];
                    sigmoids<kPairs>(out, d + 4 * j, factor, sigmoid_bias[quad * kBiasPitch + j]);
                    to[4 * j] = quad < 2 ? out[1] : out[0];
                    to[16 * kBlockChannels + 4 * j] = quad < 2 ? out[3] : out[2];
                }
                bits |= 1u << kEdgeBit;
                /* both row phases are done with the strips, and the scratch is written */
                asm volatile("bar.sync %0, 256;" ::"r"(1 + kGroups + s) : "memory");
                continue;
            }
            const struct rows_target target = rows_target_of(args, begin, tiles, i, rank);
            const bool exists = phase >= target.skip && phase < target.skip + target.rows;
            const int active = target.rows ? residues : 0;
            float *to = stages + quad * kStagePitch + (phase - target.skip) * args.output_w + col;
#pragma unroll
            for (int residue = 0; residue < kResidues; residue++) {
                if (residue < active) {
                    float out[2][4];
                    const float2 b =
                        *(const float2 *)(sigmoid_bias + quad * kBiasPitch + 2 * residue);
                    sigmoids<kPairs>(out[0], d + 8 * residue, factor, b.x);
                    sigmoids<kPairs>(out[1], d + 8 * residue + 4, factor, b.y);
                    constexpr int kHalf = kStageLines / 2 * kStagePitch;
                    barrier_wait(stored + 8 * stage, ~bits >> (kStageBit + stage) & 1);
                    bits ^= 1u << (kStageBit + stage);
                    float *p = to + stage * (kStageLines * kStagePitch) +
                               rows_offset(args, target, residue);
                    if (exists) {
                        float *q = p + other;
#pragma unroll
                        for (int h = 0; h < 2; h++) {
                            if (col < args.output_w)
                                p[h * kHalf] = out[h][0];
                            if (col + other < args.output_w)
                                q[h * kHalf] = out[h][1];
                            if (col + 16 < args.output_w)
                                p[h * kHalf + 16] = out[h][2];
                            if (col + other + 16 < args.output_w)
                                q[h * kHalf + 16] = out[h][3];
                        }
                    }
                    __syncwarp();
                    if (lane == 0)
                        barrier_arrive(staged + 8 * stage);
                    stage = stage == kStages - 1 ? 0 : stage + 1;
                }
            }
            i++;
            bits = (bits ^ 1u << (kRowBit + row)) & ~(1u << kEdgeBit);
            row = row_after;
        }
    }
    /* a block's shared memory lives until its neighbour has sent */
    if (kCluster > 1)
        asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
#endif
}

#endif
