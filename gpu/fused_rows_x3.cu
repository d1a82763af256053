/* The row form of gpu-fused-fp16x3 (gpu/fused_fp16x3.cu): gpu/fused_rows.cuh with operands split in
 * two fp16 halves, three products, of fp32 grade.
 *
 * Both halves of a block's weights leave room for 32 channels, in all four phases; four blocks of a
 * cluster share a tile of 128. Each of a block's four warpgroups is a stream of its own. */
constexpr int kParts = 2;

#include "gpu/fused_rows_host.cuh"

const struct variant_ops fused_form_rows_x3 = {
    .info = VARIANT_INFO(fused_fp16x3),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
