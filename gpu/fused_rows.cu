/* Host side of the fused row kernel (gpu/fused_rows.cuh): what it covers, packing, launch. A form
 * of gpu-fused-fp16 (gpu/fused_fp16.cu), not a row of the variant table.
 *
 * Launch, home case: 66 clusters of two blocks, one a multiprocessor, of 640 threads; 96 registers,
 * none spilled; 230,944 bytes of shared memory (weights 131,072, ring 24,960, stages 67,712). Then
 * the repair kernel, launched early and returning at once.
 *
 * Home case: 139.6 GFLOP (141.8 with the patches off the edge), 1.225 GB; floor 0.288 ms at the
 * copy rate of the same run. H200, 2026-11-23, CUDA events, two rotating pairs of buffers:
 *
 *     0.398 ms (1.38 x floor, 351 TFLOP/s) in turn with PyTorch's kernels, 0.40 back to back
 *     largest error against fp64 9.5e-7 on kernelbench data; 0.66 of the class's bound on
 *     conditioned data, 0.86 at most in 3,167 verdicts
 *     PyTorch in the same run: eager tf32 8.14, torch.compile max-autotune tf32 1.55 ms
 *
 * All this at 9a8ee44e847d. There a pair of sigmoids of column 0 was of two tiles, so that bits
 * depended on an image's place in the batch; what is here since is verified by the emulator alone.
 *
 * ncu, --clock-control none, home case, 9a8ee44e847d: 392 us at 1.74 GHz; DRAM 0.186 GB read (x is
 * 0.134, the rest are sectors of left edges' pixels and the prefetches'), 1.08 GB written (y is
 * 1.09); tensor pipe 39 %, special functions 49 %, issue slots 44 %, L1 63 %, L2 77 %, DRAM 67 %;
 * bank conflicts of 2.6 M wavefronts in loads from shared memory, of 2.9 M in stores.
 *
 * What bounds it: the copies to y. Without them it takes 0.332 ms. Copies alone, 1 KB each from all
 * multiprocessors, bring 4.0 TB/s where planes are whole lines of 128 bytes, 3.6 to 3.8 where they
 * are not, as here: y takes 0.29 ms of it. Where their source lies in its 128 bytes doesn't matter
 * (but it has to be a multiple of 32), nor do the storing warps' instructions. A tile takes 5,000
 * clocks; by counters the special-function unit is busy for 2,600 of them, the tensor cores for
 * 2,050, shared memory for 3,000, the schedulers' issue slots for 2,300, and by the rate of copies
 * alone the way to the L2 for 4,000.
 *
 * The rest, about 20,000 clocks each: the start, until a first stage is full (the first rows of x
 * take 8,000 to arrive where the L2 is full of what an earlier kernel wrote, the first left edge
 * 3,500), and the end: traced, blocks end between 366 and 390 us, mostly the same multiprocessors
 * first, run after run.
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
 *     0.440   streams take tiles in turn: one ring of three rows, a stage for every pair of
 *             residues, carried floats in registers. Stages take 2,450 clocks instead of
 *             4,440, but products wait 4,400 for x: pixels of left edges, which nobody asked of
 *             L2, are on one scoreboard with the rows.
 *     0.405   a row by one loading warp, two tiles' time for its loads; the pixels by copies of 4
 *             bytes to shared memory (0.35). No wait for x is left.
 *     0.395   a row to the other block by one copy, not a store for every pixel; a pair of sigmoids
 *             in 4 instructions instead of 5; the first rows asked for at once (0.397).
 *     0.397   a turn for every stage, entries freed by the first half of a product (0.375): 0.332
 *             instead of 0.348 without the copies to y, and as before with them.
 *
 *     Not kept: stages that lie in 128 bytes as y does (0.418); a residue of every stage for each
 *     storing warp (0.430); a stage freed when the next one's copies are ordered (0.399); row
 *     phases one after the other (0.408); tiles done in order, for fewer barriers (no gain).
 *
 * Next: copies of whole lines of 128 bytes, for which up to 31 floats a channel have to be carried;
 * runs that end together. A tensor map, one copy for eight lines, would leave no gap between them,
 * so that a warp's stores to a stage would meet in half of the banks. */
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
