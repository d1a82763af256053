/* How the streaming tensor-core kernel numbers pixels, columns and taps (internal to gpu/). Any
 * kernel, stride, padding, output_padding and dilation; groups 1.
 *
 * Sub-pixel form. With u = o + padding, phase f = u mod stride and a = u div stride, output o is
 *
 *     sum over j of x[a - j] * W[k],     k * dilation = f + stride * j,  0 <= k < kernel
 *
 * so the outputs of all phases that share a (a "patch") read the same pixels of x.
 *
 * A chunk is phases_h x phases_w neighbouring phases, powers of two each, computed side by side in
 * the columns of one product; phases beyond the stride have zero weights and are not stored. An
 * axis (rows or columns of the image) is cut into chunks of its own, each with
 *
 *     first, count     its patches: a = first .. first + count - 1
 *     taps             the j that any of its phases uses
 *
 * and a chunk of the image is a pair of those. Row m of a chunk's product is patch
 *
 *     m = (image * rows.count + ah - rows.first) * columns.count + aw - columns.first
 *
 * and column n of the part of the channels that rank r computes is
 *
 *     n = (channel - r * rank_channels) * phases + f,   f = fh * phases_w + fw within the chunk
 *
 * Where the image has one row (or column), every stride gives the same outputs; the stride is then
 * taken so large that all outputs are phases of one patch, with one tap each. */
#ifndef ASSAY_GPU_STREAM_GEOMETRY_H
#define ASSAY_GPU_STREAM_GEOMETRY_H

#include <stdint.h>

enum { STREAM_MAX_CHUNKS = 64, STREAM_MAX_TAPS = 128 }; /* along an axis */

struct stream_chunk {
    int first, count;
    int first_tap, taps; /* positions in the axis' list */
};

struct stream_axis {
    int size, output, kernel, stride, padding, dilation;
    int phases; /* of a chunk: a power of two */
    int chunks, taps;
    struct stream_chunk chunk[STREAM_MAX_CHUNKS];
    int tap[STREAM_MAX_TAPS]; /* j */
};

struct stream_geometry {
    int images, in_channels, out_channels;
    int padded_channels;      /* of x as fp16: a multiple of STREAM_SLICE() */
    int log_phases_w, phases; /* of a chunk: phases_h * phases_w */
    int ranks, rank_channels; /* blocks that share a patch's channels */
    int tiles;                /* of the largest chunk */
    int solo;                 /* one output channel: each column is a pixel of its own */
    int64_t input_plane, output_plane;
    struct stream_axis rows, columns;
};

/* Input channels of a step, by the columns of the instruction: more where it is short. */
#define STREAM_SLICE(columns) ((columns) >= 64 ? 32 : 64)

/* Number of (row tap, column tap) pairs before chunk (ch, cw)'s. */
#define STREAM_FIRST_PAIR(g, ch, cw)                                                               \
    ((g)->rows.chunk[ch].first_tap * (g)->columns.taps +                                           \
     (g)->rows.chunk[ch].taps * (g)->columns.chunk[cw].first_tap)

#endif
