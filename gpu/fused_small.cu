/* The fused kernel of small batches (gpu/fused_small.cuh). A form of gpu-fused-fp16
 * (gpu/fused_fp16.cu, which says where it pays), not a row of the variant table.
 *
 * Launch, home case, one image: 132 blocks, one a multiprocessor, of 512 threads and a tile each;
 * 116 registers, none spilled; 104 KB of shared memory (weights 65,536, x 33,280). Up to 64
 * channels: two blocks of 256 threads a multiprocessor.
 *
 * One image moves 9.6 MB: floor 2.3 us. H200, 2026-11-23, medians of graphs of one launch and of
 * twenty, us a launch, rotating buffers; gpu/stream_fp16.cu and gpu/fused_rows.cu beside it:
 *
 *                                    this          streamed      rows
 *     home case, 1 image             11.8   8.5    17.1  15.0    20.3  18.2
 *     home case, 2 images            18.0  14.7    22.3  21.9    23.9  22.1
 *     home case, 4 images            29.5  25.9    34.6  35.1    29.9  27.2
 *     32 -> 64, 16x16, 128 images    30.1  30.8    39.2  37.4
 *
 * Where one image's time goes, clocks of a block at 1.9 GHz, one after the other: start 740, the
 * kernel before it 2,050, x asked for 1,530, biases and barrier 1,380, x arrives 740, products
 * 2,270 + 1,460, exponentials 540, exchange 70, maxima and sums combined 530, sigmoids and stores
 * 4,530. y's 8.5 MB alone take DRAM 3,900 clocks, in which nothing else happens: what bounds it is
 * that one tile a multiprocessor has nothing to overlap with.
 *
 * Rungs, home case, one image, us in a graph of twenty (predicted), and what was learned:
 *
 *     - n128 by two warpgroups instead of n64 by four: no faster (a quarter less).
 *     - Maxima and sums combined by each lane for four pixels cost 1,150 clocks; each for its own,
 *       then shuffles: 530.
 *     - A branch around each store instead of a predicate on it: 1,400 clocks more.
 *     - The repair not inlined: the compiler put a wait behind every product.
 *     - Two blocks of 64 registers a multiprocessor, so that one loads weights while the other, of
 *       the launch before, stores: 8.5 -> 9.1 (7), four images 25.9 -> 31.0. Registers are spilled,
 *       x comes no longer a tile ahead, and the stores still take their time.
 *     - Four blocks a multiprocessor instead of two, 32 -> 64 channels: 31 -> 42. */
constexpr int kParts = 1;

#include "gpu/fused_small_host.cuh"

const struct variant_ops fused_form_small = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
