/* The fused kernel of small batches (gpu/fused_small.cuh) with split operands. A form of
 * gpu-fused-fp16x3 (gpu/fused_fp16x3.cu, which says where it pays), not a row of the variant table.
 *
 * Both halves of the weights must fit on chip, which those of the home case do not. 107 to 128
 * registers, none spilled. H200, 2026-11-23, medians of graphs of one launch and of twenty, us a
 * launch; gpu/stream_fp16x3.cu beside it:
 *
 *                                    this          streamed
 *     32 -> 64, 16x16, 1 image        8.0   4.8    12.1   9.4
 *     32 -> 64, 16x16, 16 images     11.0   7.9    15.1  12.2
 *     32 -> 64, 16x16, 128 images    36.2  32.1    55.4  52.7
 *     64 -> 64, 32x32, 128 images     174   171     215   212 */
constexpr int kParts = 2;

#include "gpu/fused_small_host.cuh"

const struct variant_ops fused_form_small_x3 = {
    .info = VARIANT_INFO(fused_fp16x3),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
