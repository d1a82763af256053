/* Host side of the fused row kernel (gpu/fused_rows.cuh): what it covers, packing, launch. A form
 * of gpu-fused-fp16 (gpu/fused_fp16.cu), not a row of the variant table.
 *
 * Launch, home case: 66 clusters of two blocks, one a multiprocessor, of 640 threads; 96 registers,
 * none spilled; 232,232 bytes of shared memory (weights 131,072, rings 33,280, stages 52,224). Then
 * the repair kernel, launched early and returning at once.
 *
 * Home case: 139.6 GFLOP (141.8 with the patches off the edge), 1.225 GB; floor 0.292 ms at the
 * copy rate of the same run. H200, 2026-11-23, CUDA events, two rotating pairs of buffers:
 *
 *     0.424 ms (1.45 x floor, 329 TFLOP/s) back to back, kernelbench and normal data alike
 *     0.430 ms (1.47 x) among other kernels
 *     largest error against fp64 8.9e-7 on kernelbench data; 0.61 of the class's bound at most
 *     PyTorch in the same run: eager tf32 8.13, torch.compile max-autotune tf32 1.57 ms
 *
 * ncu, --clock-control none: 412 us at 1.72 GHz; issue slots 44 %, L1 63 %, L2 74 %, DRAM 64 %.
 *
 * What bounds it: the way into the L2, and how unevenly it is used. With all but the copies to y it
 * takes 0.363 ms, with half of their bytes, in half as many copies or in as many, 0.374, with y in
 * a region that stays in the L2 0.415. Copies alone, 1 KB each from all multiprocessors, bring 4.0
 * TB/s, into the L2 as into memory, so that y takes 0.272 ms of it (half that rate where the source
 * is not a multiple of 32 bytes); here it is used for two thirds of the time. The storing warps'
 * own instructions don't show (0.359 without them). Of the 10,730 clocks that a stream takes for a
 * tile the copies add, by samples: 530 in which the fourth stage waits for the first to be stored,
 * 290 in the trade of sums, 340 in loads and stores of shared memory, 135 in turns.
 *
 * And the start: 44,000 clocks go by before a first stage is full. The first rows of x and the
 * first left edge's pixels take 17,000 to arrive, wherever they are asked for; that edge takes
 * 7,000 more.
 *
 * Rungs, home case, measured ms (predicted), and what was learned:
 *
 *     0.850   two warpgroups of m64n256, a tile each, stores by bulk copies of 1 KB a channel
 *             (predicted 0.35). Whole sectors did end the L2's trouble, but a copy takes its
 *             warp 100 clocks to issue, one lane after the other, while the others wait at a
 *             barrier.
 *     0.747   four warpgroups of m64n128, a row phase each; a warp a stream that loads, one
 *             that stores (0.33). Products, softmax and two stages now take 6000 clocks; the
 *             stores 2000 each.
 *     0.828   warpgroups fetch x beside the softmax, two storing warps a stream. The
 *             compiler spilled the loads in flight: each waited for memory at once.
 *     0.930   no other warps: each fetches an eighth of x and stores one channel of a stage.
 *             Spilled again; a reload costs 500 clocks, for shared memory leaves the L1 28 KB.
 *     0.646   two movers a stream: x first, then stores; the others without spills (0.36).
 *     0.568   x first again, and asked of L2 a tile ahead (0.35).
 *     0.549   column phases in turned order for half the lanes: stores to a stage without bank
 *             conflicts; both halves of a row of x in flight at once.
 *     0.514   three stages instead of two, in the place of the third row of x (0.42). Without
 *             maximum, trade and sigmoids together it took 0.493, without stores 0.442: the
 *             movers bound it, not the arithmetic. A trace showed both streams in step, all
 *             multiplying at once and all storing at once.
 *     0.534   no maximum; movers apart, two that load and two that store by copies, whose
 *             operands are made uniform: a copy then takes 30 clocks (0.40). Copies reach the
 *             copy rate from one warp alone.
 *     0.541   turns at the stages, six for both streams (0.33). Now a load of column 0 held up
 *             every fence behind it.
 *     0.498   column 0 by a copy.
 *     0.446   (traced) first and last tiles of an image by copies too: by stores, line after
 *             line, they held up all.
 *     0.563   the storing warps as a function, since the compiler spilled registers of the
 *             computing ones: generic addresses and arguments from memory. 0.458 once they were
 *             shared addresses and registers.
 *     0.482   two stages at a time: now stages take 250 clocks, and all wait for x.
 *     0.440   x by 16 bytes a lane, a quarter of the loads.
 *     0.433   the storing warps' arithmetic in 32 bits and before a stage is full; 0.436 and
 *             0.439 in later runs, with a quarter of their instructions less (0.41): no gain.
 *     0.431   a stage free as soon as its own copies have read it (0.41).
 *
 *     0.4395  that rung again, on the day of those below; from here on medians of 30 launches.
 *     0.437   x fetched once a cluster, its loads in flight across tiles (0.39). The waits for
 *             x went, 10 % of the samples, and all others grew: the storing warps bound it,
 *             2,600 clocks for two residues. Without left edges 0.395: 64 tiles' pixels at
 *             once are 4,100 loads of a sector each, 70,000 clocks in which nothing is stored.
 *     0.552   three storing warps, one that loads; left edges by sixteens, their pixels
 *             fetched a row a tile (0.36). Edges are cheap now, 4,500 to 8,300 clocks for
 *             sixteen tiles, and stages fast; one warp cannot load: 700 instructions and two
 *             latencies a tile. 0.497 with rows asked of L2, 0.476 with fewer instructions.
 *     0.443   two and two again, stages of two residues: one wait, one fence, one barrier
 *             (0.37). Now a fence for device memory took the storing warps a fifth of their
 *             time.
 *     0.4275  the fence where the scratch is written.
 *     0.425   a loading warp a stream: the compiler has all loads in flight on one scoreboard,
 *             so a wait for one stream's row was one for the other's, just asked for.
 *     0.427   rows asked of L2 (0.40): no wait for x is left, and the trades of sums take as
 *             long.
 *     0.424   column 0 asked for by the loading warps, places in y kept from tile to tile
 *             (0.39; 0.431 without asking L2).
 *
 *     Not kept: half of the sigmoids before the sums arrive (0.441); a third of x in flight
 *     across rows (0.47); column 0 by mma.sync in the loading warps, which find the tensor cores
 *     busy (0.51); the edge as eight more products of each tile, of which one row counts
 *     (0.462); one reciprocal for four sigmoids (no gain); column 0 loaded by the storing warps,
 *     whose fences then wait for it (0.495). Twenty-one warps don't fit: six on a scheduler leave
 *     80 registers each.
 *
 *     Nor these, after all of the above: y with an L2 policy of evict_first; stages freed by
 *     residues; a turn for every warp; the row phases of a stream multiplying one after the other
 *     (0.346 instead of 0.359 where nothing is stored, 0.424 where it is); left edges by half the
 *     arithmetic, biases loaded ahead of the stores (0.422).
 *
 * Next: one copy for all lines of a residue by a tensor map (eight planes of y are a multiple of 16
 * bytes), which frees the storing warps; the start. */
constexpr int kParts = 1;

#include "gpu/fused_rows_host.cuh"

const struct variant_ops fused_form_rows = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = release,
};
