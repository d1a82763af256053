/* What the streaming kernels share: arguments, sizes, who computes what (internal to gpu/). */
#ifndef ASSAY_GPU_STREAM_ARGS_CUH
#define ASSAY_GPU_STREAM_ARGS_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#include "gpu/dependent_launch.cuh"
#include "gpu/stream_geometry.h"

/* Each image's largest |x| (its bits), for this launch and, cleared, for the next: the first kernel
 * writes notes[epoch & 1] and clears the other; it hands its epoch on to the second kernel, one
 * block of which advances it. So no launch needs a kernel of its own to clear anything. */
struct stream_notes {
    uint32_t epoch, current;
    uint32_t image_max[1]; /* [2][notes_images] */
};

struct stream_args {
    const float *x;
    float *y;
    __half *x_half;        /* [image][pixel][part][padded_channels] */
    const __half *weights; /* [pair of taps][rank][step][part][4][column][8] */
    const float *weight, *conv_bias, *bias;
    struct stream_notes *notes;
    int notes_images;        /* that they have room for */
    float x_scale;           /* power of two */
    float descale;           /* log2(e) / (x_scale * weight_scale) */
    float smallest, largest; /* of max |x|: outside, an image is repaired */
    float scaling_factor;
    struct stream_geometry geometry;
};

constexpr int kTileRows = 64;                /* patches: the rows of the instruction */
constexpr int kConsumers = 128;              /* threads: one warpgroup */
constexpr int kStagingPitch = kTileRows + 4; /* floats a column of results */

/* What a kernel is made of, and its shared memory in bytes from the start. */
template <int kColumns_, int kParts_, int kBlocks_, int kStages_, bool kLoop_ = false>
struct stream_tile {
    static constexpr int kColumns = kColumns_;
    static constexpr int kParts = kParts_;   /* fp16 halves of an operand */
    static constexpr int kBlocks = kBlocks_; /* of a multiprocessor */
    static constexpr int kStages = kStages_;
    static constexpr bool kLoop = kLoop_; /* a block takes many tiles, one after the other */
    /* NOTE: few producers beside a wide tile: two blocks of 256 threads on a multiprocessor would
     * leave 128 registers a thread, too few for the instruction, however many setmaxnreg adds
     * later. */
    static constexpr int kProducerWarps = kColumns >= 192   ? 2
                                          : kColumns == 128 ? 1
                                          : kColumns == 64  ? 2
                                                            : 4;
    static constexpr int kThreads = kConsumers + 32 * kProducerWarps;
    static constexpr int kSlice = STREAM_SLICE(kColumns), kPlanes = kSlice / 8;

    /* Planes of x lie further apart than they are long: the eight 16-byte stores of a row in eight
     * planes, or of two rows in four, fall into different banks. */
    static constexpr uint32_t kPlaneX = (kTileRows + 8 / kPlanes) * 16;
    static constexpr uint32_t kPartX = kPlanes * kPlaneX;
    static constexpr uint32_t kPlaneW = kColumns * 16;
    static constexpr uint32_t kPartW = kPlanes * kPlaneW;
    static constexpr uint32_t kBytesX = kParts * kPartX;
    static constexpr uint32_t kBytesW = kParts * kPartW;
    static constexpr uint32_t kStage = kBytesX + kBytesW;

    static constexpr uint32_t kStaging = kColumns * kStagingPitch * 4; /* of a warpgroup */
    /* Where blocks loop, results lie behind the ring, which the next tile fills meanwhile. */
    static constexpr uint32_t kResults = kLoop ? kStages * kStage : 0;
    static constexpr uint32_t kBiases = /* logit, sigmoid: [kColumns] each */
        kLoop ? kResults + kStaging : kStages * kStage;
    static constexpr uint32_t kRows = kBiases + 2 * kColumns * 4;
    static constexpr uint32_t kBarriers = kRows + (kLoop ? 2 : 1) * kTileRows * 16;
    static constexpr uint32_t kExchange = kBarriers + 2 * kStages * 8;
    static_assert(kLoop || kStages * kStage >= kStaging, "results fit in the ring");
    static_assert(kStage % 128 == 0 && kBytesX % 128 == 0 && kExchange % 16 == 0, "alignment");
};

/* Weight of pair (jh, jw), input channel `in`, column n of a rank in chunk (ch, cw); 0 where there
 * is none. */
static __host__ __device__ inline float stream_weight(const struct stream_geometry *g,
                                                      const float *weight, int ch, int cw, int jh,
                                                      int jw, int rank, int in, int n)
{
    const int f = n & (g->phases - 1), c = n / g->phases;
    const int channel = rank * g->rank_channels + c;
    const int fh = ch * g->rows.phases + (f >> g->log_phases_w);
    const int fw = cw * g->columns.phases + (f & (g->columns.phases - 1));
    if (c >= g->rank_channels || channel >= g->out_channels || in >= g->in_channels ||
        fh >= g->rows.stride || fw >= g->columns.stride)
        return 0.0f;
    const int64_t reach_h = fh + (int64_t)g->rows.stride * jh;
    const int64_t reach_w = fw + (int64_t)g->columns.stride * jw;
    const int64_t kh = reach_h / g->rows.dilation, kw = reach_w / g->columns.dilation;
    if (reach_h % g->rows.dilation || reach_w % g->columns.dilation || kh >= g->rows.kernel ||
        kw >= g->columns.kernel)
        return 0.0f;
    return weight[(((int64_t)in * g->out_channels + channel) * g->rows.kernel + kh) *
                      g->columns.kernel +
                  kw];
}

/* Where a block stands. */
struct stream_place {
    int ch, cw;         /* chunk, by axis */
    uint32_t first_row; /* of the chunk's product */
    int rank;           /* its share of the channels */
};

/* Patch m of a chunk; false where there is none. */
static __host__ __device__ inline bool stream_patch(const struct stream_geometry *g, int ch, int cw,
                                                    uint32_t m, int *image, int *ah, int *aw)
{
    const struct stream_chunk *r = &g->rows.chunk[ch], *c = &g->columns.chunk[cw];
    const uint32_t plane = (uint32_t)r->count * (uint32_t)c->count;
    if (m >= (uint32_t)g->images * plane)
        return false;
    const uint32_t n = m / plane, rest = m - n * plane, row = rest / (uint32_t)c->count;
    *image = (int)n;
    *ah = (int)row + r->first;
    *aw = (int)(rest - row * (uint32_t)c->count) + c->first;
    return true;
}

/* Unit: tiles of all chunks, chunks innermost. False where the chunk has fewer tiles than the
 * largest: a cluster leaves as a whole. */
static __device__ __forceinline__ bool stream_place_of(const struct stream_geometry &g, int unit,
                                                       int rank, struct stream_place *at)
{
    const int chunks = g.rows.chunks * g.columns.chunks, chunk = unit % chunks;
    at->ch = chunk / g.columns.chunks;
    at->cw = chunk - at->ch * g.columns.chunks;
    at->rank = rank;
    at->first_row = (uint32_t)(unit / chunks) * kTileRows;
    return at->first_row <
           (uint32_t)g.images * g.rows.chunk[at->ch].count * g.columns.chunk[at->cw].count;
}

#endif
