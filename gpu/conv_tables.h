/* What every fp32 convolution kernel reads: the sub-pixel tables of a problem and its packed
 * weights (internal to gpu/).
 *
 * Outputs oh = stride_h * a + r of one residue r ("phase") receive a fixed set of kernel rows, each
 * at a fixed distance from a:
 *
 *     kernel row k  where (r + padding - k * dilation) % stride == 0
 *     input row     a + (r + padding - k * dilation) / stride
 *
 * and columns likewise, so a phase (rh, rw) is an ordinary correlation of x with rows(rh) x
 * columns(rw) taps: a GEMM of pixels x (taps * channels) by (taps * channels) x out_channels. Each
 * kernel row belongs to one residue; sorted by residue, they are `row_tap`, and residue r has the
 * positions row_begin[r] .. row_begin[r + 1].
 *
 *     packed weight
 *         [groups][kernel_h position][kernel_w position][group_in_padded][group_out_padded]
 *
 * with zeros in the padding, so that one tap's block is the GEMM's B matrix as it stands. */
#ifndef ASSAY_GPU_CONV_TABLES_H
#define ASSAY_GPU_CONV_TABLES_H

#include "gpu/variant.h"

/* Dimensions from which the kernels' 32-bit coordinates could overflow. */
#define CONV_DIMENSION_LIMIT (1 << 29)

struct conv_args { /* passed to kernels by value; every pointer is a device pointer */
    const float *x;
    float *y;
    const float *packed, *weight; /* weight: PyTorch's layout */
    const float *conv_bias, *bias;
    const int *row_begin, *row_tap, *row_distance;
    const int *column_begin, *column_tap, *column_distance;
    int64_t x_image, x_plane, y_image, y_plane; /* elements */
    int64_t images;
    int height, width, output_h, output_w;
    int stride_h, stride_w;
    int phases_h, phases_w; /* residues that have outputs: min(stride, output) */
    int kernel_h, kernel_w;
    int groups, group_in, group_in_padded, group_out, group_out_padded, out_channels;
    int chunks; /* column blocks of a group that a tile's width makes */
    float scale;
};

struct conv_tables {
    struct conv_args args; /* x, y, images and chunks are the launch's to fill */
    int *d_axes;
    float *d_packed;
    bool finite_weights; /* padding zeros may be multiplied */
};

/* True where the coordinates fit the kernels; otherwise a reason. */
bool conv_tables_supports(const struct problem *problem, char *reason, size_t reason_size);

/* Makes the tables on the current device, packing the weights with columns padded to a multiple of
 * `column_block` and channels to a multiple of 16; column_block 0 packs none. */
enum status conv_tables_init(struct conv_tables *tables, const struct variant_context *context,
                             int column_block, struct error *error);
void conv_tables_release(struct conv_tables *tables);

/* Tiles of `pixels` pixels that cover every phase, times `blocks` for each, as a grid's x. */
enum status conv_grid(const struct conv_args *args, int pixels, int64_t blocks, unsigned *grid,
                      struct error *error);

/* Says in context->note why the direct path was taken. */
void conv_note_direct(const struct conv_tables *tables, struct variant_context *context);

#endif
