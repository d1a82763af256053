/* How the fused tile kernels number pixels (internal to gpu/).
 *
 * Sub-pixel form. With u = o + padding, phase = u mod stride and a = u div stride, output o is
 *
 *     sum over j of x[a - j] * W[phase + stride * j],     phase + stride * j < kernel
 *
 * so all outputs that share a (a "patch") read the same taps_h x taps_w pixels of x.
 *
 * Patches and pixels share one numbering. Rows of x are kept at a pitch that leaves just the zeros
 * that the taps reach beyond the row: the zeros behind a row are the ones before the next, and the
 * same for the rows of one image and the next:
 *
 *     patch (n, a, b) = (n * rows + a - first_patch_row) * pitch + b - first_patch_col
 *     slot  (n, r, c) = (n * rows + r - first_row) * pitch + c - first_col
 *     tap (jh, jw) of patch q reads slot q + (taps_h - 1 - jh) * pitch + taps_w - 1 - jw
 *
 * Any 64 consecutive patches are a tile, whatever rows and images they belong to. Images wider than
 * the ring allows are cut into strips, each an image of its own whose pitch holds its neighbours'
 * columns; patches in the last taps_w - 1 columns of a strip belong to nobody. */
#ifndef ASSAY_GPU_FUSED_GEOMETRY_H
#define ASSAY_GPU_FUSED_GEOMETRY_H

#include <stdint.h>

#include "ref/problem.h"

enum { FUSED_MAX_TAPS = 16 };

/* n / divisor for n < 2^31 without a division. */
struct fast_divisor {
    uint32_t divisor, multiplier, shift;
};

struct fused_geometry {
    int images, in_channels, out_channels;
    int height, width, output_h, output_w;
    int kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
    int taps_h, taps_w;         /* ceil(kernel / stride); phases with fewer have zero weights */
    int channel_groups;         /* in_channels / 8, rounded up to even */
    int first_patch_row, first_patch_col, first_row, first_col;
    int strip_patches;          /* patches that count in a row of a strip */
    uint32_t pitch, rows;
    int tiles;
    int max_shift;              /* the largest of shift[] */
    int ring_depth;             /* tiles that the producer may be ahead */
    uint32_t ring_slots, ring_pitch;
    int tile_blocks;            /* thread blocks that share a tile: row phases, cluster */
    int64_t input_plane, output_plane;
    uint32_t shift[FUSED_MAX_TAPS];
    struct fast_divisor divide_image, divide_pitch, divide_strips;
};

#endif
