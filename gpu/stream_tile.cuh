/* The streaming tensor-core kernel: transposed convolution of any stride, with softmax over
 * channels, bias, scale and sigmoid in its epilogue (internal to gpu/; sm_90a).
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * x and y fp32 NCHW; products of fp16 operands scaled by powers of two, sums in fp32.
 * gpu/stream_fp16.cu tells what it measured; gpu/stream_geometry.h how pixels are numbered.
 *
 * Two kernels. stream_convert_kernel reads x once and writes it as fp16, channels last, so that
 * eight channels of any pixel are 16 bytes; it stays in L2. It also notes each image's largest |x|.
 * stream_kernel then takes tiles of 64 patches by kColumns columns (channels times the phases of a
 * chunk), K = taps x channels in steps of 32 channels (64 where there are fewer than 64 columns):
 *
 *     a stage of the ring
 *     x        [4 groups of 8 channels][64 patches][8] fp16, gathered by cp.async, zeros outside
 *     weights  [4 groups of 8 channels][kColumns][8] fp16, one bulk copy, packed at prepare
 *
 *     warps 0-3   consumer: wgmma m64 x kColumns x k16, then the epilogue
 *     warps 4-    producer: one or two warps beside wide tiles, four beside narrow ones
 *
 * `full` and `empty` mbarriers hand stages on. A block computes one tile, or, of a width at which
 * that was faster, one after the other while its producer runs ahead; two to four blocks share a
 * multiprocessor, so that one's epilogue runs beside another's products.
 *
 * Launches overlap: weights are fetched while the first kernel still runs, and the first kernel of
 * a launch is in place before the last one's blocks are gone (griddepcontrol).
 *
 * Clusters. `ranks` blocks share a tile's channels where they don't fit one block's columns, and
 * exchange maximum and sum of every pixel through distributed shared memory.
 *
 * Epilogue: gpu/stream_epilogue.cuh. Results pass through the ring, which is free by then.
 *
 * Images out of fp16's range, with NaN or infinities, or all of them where a weight is not finite,
 * are computed by the same block in IEEE fp32 by the definition (stream_repair()): the choice is an
 * image's own, so no bits depend on how the batch is sliced.
 *
 * Fast intrinsics: ex2.approx and rcp.approx (gpu/epilogue_math.cuh). */
#ifndef ASSAY_GPU_STREAM_TILE_CUH
#define ASSAY_GPU_STREAM_TILE_CUH

#include "gpu/async_copy.cuh"
#include "gpu/stream_args.cuh"
#include "gpu/stream_convert.cuh"
#include "gpu/stream_epilogue.cuh"
#include "gpu/wgmma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Producer: steps in the order row tap, column tap, 32 channels. */
template <class T>
static __device__ __forceinline__ void stream_produce(const struct stream_args &args,
                                                      const struct stream_place &at, uint32_t base,
                                                      bool first, int &slot, int &round)
{
    const struct stream_geometry &g = args.geometry;
    const struct stream_chunk &rows = g.rows.chunk[at.ch], &columns = g.columns.chunk[at.cw];
    const uint32_t full = base + T::kBarriers, empty = full + 8 * T::kStages;
    const int thread = threadIdx.x - kConsumers;
    const int steps = g.padded_channels / T::kSlice;
    const int total = rows.taps * columns.taps * steps;
    const __half *weights =
        args.weights + ((int64_t)STREAM_FIRST_PAIR(&g, at.ch, at.cw) * g.ranks + at.rank) * steps *
                           (T::kBytesW / 2);
    const int64_t next_pair = (int64_t)(g.ranks - 1) * steps * (T::kBytesW / 2);

    /* Weights of step s, into stage `to`; called by one thread, for s = 0, 1, ... in turn. */
    int weight_step = 0;
    const auto load_weights = [&](int to) {
        barrier_expect(full + 8 * to, T::kBytesW);
        bulk_load(base + to * T::kStage + T::kBytesX, weights, T::kBytesW, full + 8 * to);
        weights += T::kBytesW / 2;
        if (++weight_step == steps) {
            weight_step = 0;
            weights += next_pair;
        }
    };
    int loaded = first ? min(total, T::kStages) : 0; /* steps whose weights are under way */
    if (thread == 0)
        for (int s = 0; s < loaded; s++)
            load_weights(s);

    /* This thread's rows of the tile, 16 bytes of each in every step. */
    constexpr int kApart = 32 * T::kProducerWarps / T::kPlanes, kMine = kTileRows / kApart;
    const int group = thread & (T::kPlanes - 1), row = thread / T::kPlanes;
    const int pitch = g.padded_channels * T::kParts;
    int ah[kMine], aw[kMine];
    const __half *pixel[kMine];
    uint32_t to[kMine];
#pragma unroll
    for (int i = 0; i < kMine; i++) {
        int image = 0;
        ah[i] = aw[i] = -(1 << 30);
        pixel[i] = args.x_half;
        if (stream_patch(&g, at.ch, at.cw, at.first_row + row + kApart * i, &image, &ah[i], &aw[i]))
            pixel[i] += (((int64_t)image * g.rows.size + ah[i]) * g.columns.size + aw[i]) * pitch +
                        group * 8;
        to[i] = base + group * T::kPlaneX + (row + kApart * i) * 16;
    }

    wait_for_prerequisites();
#pragma unroll 1
    for (int th = 0; th < rows.taps; th++) {
        const int jh = g.rows.tap[rows.first_tap + th];
#pragma unroll 1
        for (int tw = 0; tw < columns.taps; tw++) {
            const int jw = g.columns.tap[columns.first_tap + tw];
            const __half *source[kMine];
            uint32_t bytes[kMine];
#pragma unroll
            for (int i = 0; i < kMine; i++) {
                const bool inside = (uint32_t)(ah[i] - jh) < (uint32_t)g.rows.size &&
                                    (uint32_t)(aw[i] - jw) < (uint32_t)g.columns.size;
                bytes[i] = inside ? 16 : 0;
                source[i] =
                    inside ? pixel[i] - ((int64_t)jh * g.columns.size + jw) * pitch : args.x_half;
            }
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                if (round > 0)
                    barrier_wait(empty + 8 * slot, (round - 1) & 1);
                if (loaded > 0)
                    loaded--;
                else if (thread == 0)
                    load_weights(slot);
#pragma unroll
                for (int i = 0; i < kMine; i++) {
#pragma unroll
                    for (int part = 0; part < T::kParts; part++)
                        copy_16(to[i] + slot * T::kStage + part * T::kPartX,
                                source[i] + (bytes[i] ? part * g.padded_channels : 0), bytes[i]);
                    source[i] += bytes[i] ? T::kSlice : 0;
                }
                copy_arrive(full + 8 * slot);
                if (++slot == T::kStages) {
                    slot = 0;
                    round++;
                }
            }
        }
    }
}

/* d[64, kColumns] = sum over `total` stages. */
template <class T>
static __device__ __forceinline__ void stream_multiply(float (&d)[T::kColumns / 2], uint32_t base,
                                                       int total, int &slot, int &parity)
{
    const uint32_t full = base + T::kBarriers, empty = full + 8 * T::kStages;
    const bool tells = (threadIdx.x & 31) == 0; /* a lane of each warp */
    const uint64_t x0 = wgmma_descriptor(base, T::kPlaneX, 128);
    const uint64_t w0 = wgmma_descriptor(base + T::kBytesX, T::kPlaneW, 128);
    int previous = 0;
#pragma unroll
    for (int i = 0; i < T::kColumns / 2; i++)
        d[i] = 0.0f;
#pragma unroll 1
    for (int s = 0; s < total; s++) {
        barrier_wait(full + 8 * slot, parity);
        /* NOTE: here, not where x is copied: there it would wait for all copies under way. */
        fence_proxy_async();
        const uint64_t x = x0 + slot * (T::kStage / 16), w = w0 + slot * (T::kStage / 16);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < T::kSlice / 16; k++) {
            const uint64_t xk = x + k * (2 * T::kPlaneX / 16), wk = w + k * (2 * T::kPlaneW / 16);
            wgmma<T::kColumns>::run(d, xk, wk);
            if (T::kParts == 2) {
                wgmma<T::kColumns>::run(d, xk, wk + T::kPartW / 16);
                wgmma<T::kColumns>::run(d, xk + T::kPartX / 16, wk);
            }
        }
        wgmma_commit();
        if (s > 0) {
            wgmma_wait<1>();
            if (tells)
                barrier_arrive(empty + 8 * previous);
        }
        previous = slot;
        if (++slot == T::kStages) {
            slot = 0;
            parity ^= 1;
        }
    }
    wgmma_wait<0>();
    if (T::kLoop && total > 0 && tells)
        barrier_arrive(empty + 8 * previous);
#pragma unroll
    for (int i = 0; i < T::kColumns / 2; i++)
        register_keep(d[i]); /* nothing reads d before the wait */
}

#endif /* __CUDA_ARCH_FEAT_SM90_ALL */

template <class T>
static __global__ void __launch_bounds__(T::kThreads, T::kBlocks)
    stream_kernel(const __grid_constant__ struct stream_args args)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    BLOCK_SHARED(shared);
    const struct stream_geometry &g = args.geometry;
    const uint32_t base = shared_address(shared);
    const int rank = blockIdx.x % g.ranks;
    const int units = g.tiles * g.rows.chunks * g.columns.chunks;
    const int stride = gridDim.x / g.ranks; /* all units, but where blocks loop */
    int unit = blockIdx.x / g.ranks;
    struct stream_place at;
    bool some = stream_place_of(g, unit, rank, &at);

    if (threadIdx.x == 0) {
        for (int i = 0; i < T::kStages; i++) {
            barrier_init(base + T::kBarriers + 8 * i, 1 + 32 * T::kProducerWarps);
            barrier_init(base + T::kBarriers + 8 * (T::kStages + i), 4);
        }
        barrier_init_fence();
        fence_proxy_async();
    }
    if (g.ranks > 1)
        cluster_sync();
    else
        __syncthreads();

    int slot = 0; /* of the ring: where this thread's role is */
    if (threadIdx.x >= kConsumers) {
        int round = 0;
        bool first = true;
        for (;;) {
            if (some) {
                stream_produce<T>(args, at, base, first, slot, round);
                first = false;
            }
            if (!T::kLoop || (unit += stride) >= units)
                break;
            some = stream_place_of(g, unit, rank, &at);
        }
        copy_wait_all();
        __syncwarp();
        if (some && g.ranks > 1) {
            cluster_sync(); /* the exchange's */
            cluster_sync(); /* as below */
        }
    } else {
        int4 *patches = (int4 *)(shared + T::kRows);
        float *logit_bias = (float *)(shared + T::kBiases);
        const int channels =
            max(0, min(g.rank_channels, g.out_channels - at.rank * g.rank_channels));
        int parity = 0, other = -kTileRows;
#pragma unroll
        for (int i = 0; i < T::kColumns; i += kConsumers) {
            const int n = i + threadIdx.x, c = n / g.phases;
            const int channel = at.rank * g.rank_channels + c;
            if (n < T::kColumns) {
                logit_bias[n] = c < channels ? args.conv_bias[channel] * LOG2_E : -INFINITY;
                logit_bias[T::kColumns + n] =
                    c < channels ? -LOG2_E * (args.scaling_factor * args.bias[channel]) : 0.0f;
            }
        }
        wait_for_prerequisites();
        const uint32_t epoch = __ldcg(&args.notes->current);
        if (blockIdx.x == 0 && threadIdx.x == 0)
            args.notes->epoch = epoch + 1;
        for (;;) {
            if (some) {
                /* The notes are read before the products and looked at after them. A patch's state:
                 * 0: to be stored, 1: to be repaired, 2: there is none. */
                uint32_t note = 0;
                if (threadIdx.x < kTileRows) {
                    int image = 0, ah = 0, aw = 0;
                    const bool real = stream_patch(&g, at.ch, at.cw, at.first_row + threadIdx.x,
                                                   &image, &ah, &aw);
                    note = __ldcg(args.notes->image_max + (epoch & 1) * args.notes_images + image);
                    patches[threadIdx.x] = make_int4(image, ah, aw, real ? 0 : 2);
                }

                float d[T::kColumns / 2];
                const int taps = g.rows.chunk[at.ch].taps * g.columns.chunk[at.cw].taps;
                stream_multiply<T>(d, base, taps * (g.padded_channels / T::kSlice), slot, parity);

                bool broken = false;
                if (threadIdx.x < kTileRows && patches[threadIdx.x].w == 0) {
                    const float m = __uint_as_float(note);
                    broken = !(m == 0.0f ? args.largest > 0.0f
                                         : m >= args.smallest && m <= args.largest);
                    if (broken)
                        patches[threadIdx.x].w = 1;
                }
                /* and the ring, or the last tile's results, are free */
                const bool any_broken = consumers_any(broken);
                float *const staging = (float *)(shared + T::kResults);
                stream_activate<T>(d, args, shared);
                stream_store<T>(d, args, at, channels, staging, patches);
                if (any_broken)
                    stream_repair<T>(args, at, staging, patches);
            }
            if (!T::kLoop || (unit += stride) >= units)
                break;
            some = stream_place_of(g, unit, rank, &at);
            /* two tables of patches in turn: a warp may still be storing */
            other = -other;
            patches += other;
        }
        if (some && g.ranks > 1) /* no block leaves while another may write to it */
            cluster_sync();
    }
#endif
}

#endif
