/* The row form of gpu-fused-fp16x3 (gpu/fused_fp16x3.cu): gpu/fused_rows.cuh with operands split in
 * two fp16 halves, three products, of fp32 grade.
 *
 * Both halves of a block's weights leave room for 32 channels, in all four phases; four blocks of a
 * cluster share a tile of 128. Each of a block's four warpgroups is a stream of its own.
 *
 * Launch, home case: 30 clusters of four blocks (12 multiprocessors of 132 are left over), of 640
 * threads; 96 registers, 60 bytes spilled; 232,176 bytes of shared memory.
 *
 * Home case: 3 x 141.8 GFLOP on the tensor cores, floor 0.525 ms at the rate of the same run.
 * H200, 2026-11-23, CUDA events, two rotating pairs of buffers:
 *
 *     0.764 ms (1.46 x floor) in turn with PyTorch's kernels, 0.752 back to back
 *     largest error against fp64 1.2e-7 on kernelbench data; 0.78 of the class's bound at most in
 *     811 verdicts
 *     PyTorch in the same run: eager fp32 19.3, torch.compile max-autotune fp32 14.4 ms
 *
 * All this at 9a8ee44e847d; gpu/fused_rows.cu says what changed since.
 *
 * ncu, --clock-control none, home case, 9a8ee44e847d: 756 us at 1.74 GHz; DRAM 0.153 GB read, 1.09
 * GB written; tensor pipe 62 %, special functions 26 %, issue slots 32 %, L1 76 %, L2 42 %, DRAM
 * 34 %.
 *
 * What bounds it: a cluster's 278 tiles of 3,072 clocks on the tensor cores are 0.49 ms. A tile
 * takes 4,600; shared memory, which feeds them, is busy for 3,800 by its counters. Products still
 * wait for x, which comes when all four blocks are done with a row; the copies to y cost 0.03 ms.
 *
 * Rungs, home case, measured ms, and what was learned:
 *
 *     1.03    the row kernel with two parts, each entry of x by one warp and its latency
 *     1.02    every other entry by each of two warps: now all wait for the stores to three blocks
 *     0.98    tiles done in any order
 *     0.895   rows to the other blocks by copies. Two streams multiply at once, at half the rate
 *             each, and then both wait for x
 *     0.842   products in order
 *     0.808   a block's channels of a row in one piece, three copies instead of twelve; pixels of
 *             left edges counted by a barrier of their own
 *     0.767   turns by stages; entries freed by the first half of a product, which makes the order
 *             of products needless
 *     0.755   fewer uniform values that live across the loop, which were spilled
 *
 * Next: no registers spilled; 12 more multiprocessors. */
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
