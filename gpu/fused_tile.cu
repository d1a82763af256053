/* The fused tile kernel (gpu/fused_tile.cuh) as a form of gpu-fused-fp16 (gpu/fused_fp16.cu).
 *
 * Launch: 132 blocks of 384 threads, one a multiprocessor; 208 registers a consumer thread, 88 a
 * producer's, no spills; 214,216 bytes of shared memory for 64 x 64 images and k4 (weights 131,072,
 * ring 41,088, stages 40,960). Then the repair kernel, launched early and returning at once.
 *
 * Home case, which gpu/fused_rows.cuh takes today: 139.6 GFLOP (141.8 with the patches off the
 * edge), 1.225 GB; floor 0.287 ms at the measured copy rate of 4265 GB/s. H200, 2026-11-22, CUDA
 * events, median of 30 over two rotating pairs of buffers: 0.688 ms. ncu, --clock-control none,
 * 1.78 GHz, 672 us:
 *
 *     DRAM read 173 MB (ideal 134), written 1.09 GB (1.09); DRAM active 39 %
 *     L2 requests (xbar to lts) 55 %, 42.2 M sectors written of 34.1 M ideal
 *     issue slots 35 %, tensor pipe 22 %, special functions 29 %, L1 data pipe 40 %
 *     shared loads: 3.1 M conflicts in 16 M wavefronts; registers 168 at launch, spills 0
 *
 * What bounds it: partly written sectors of L2. Rows of y are 129 floats, so no run begins at a
 * sector. A kernel that only stores, with this kernel's grid and addresses, takes
 *
 *     0.256   fill by float4                         0.610   fill by float, off by one float
 *     0.291   rows of 128 floats, 128 B a warp       0.338   rows of 136: whole sectors, no lines
 *     0.732   rows of 129, 128 B a warp (this one)   0.644   the same, 512 B a warp
 *     0.293   rows of 129, two rows of a channel at a time, each sector written once and whole
 *
 * milliseconds for the same 1.09 GB. Neither the 128 planes at once nor partial lines cost much; a
 * sector that is written in two parts costs as if it were written several times, however soon the
 * second part follows. No cache hint helped (evict_last 0.70, evict_first 0.73, write-through
 * 0.74).
 *
 * Rungs, home case, predicted -> measured, and what was learned:
 *
 *     0.703   this design, first version (predicted 0.35). Special functions behind a predicate
 *             still take their slot, and a store to shared memory keeps later loads back.
 *     0.688   one kernel for paired reciprocals, one without; 16 channels of results before the
 *             first goes to the stage (predicted 0.45). Without the products 0.664, without the
 *             stores to y 0.548: neither was the limit.
 *     0.816   four consumer warpgroups, two to a tile's channels (m64n128), that exchange maximum
 *             and sum (predicted 0.45). Without the stores 0.447: the epilogue did become faster,
 *             but more stores in flight run into the sectors harder.
 *     0.868   with the producer a whole piece ahead: no warp waits for x any more, all wait for
 *             stores; loads and shuffles queue behind them.
 *     0.961   four warpgroups, whole sectors: the last eight outputs of a channel go to the
 *             next tile, which stores the shared sector (predicted 0.42). Stalls for stores
 *             are gone, but each tile waited for all of its predecessor's third pass, and the
 *             store took 1540 instructions a warp and tile. gpu/fused_rows.cuh is built
 *             otherwise. */
#include "gpu/fused_tile.cuh" /* before its plan */

#include "gpu/fused_forms.h"
#include "gpu/fused_plan.cuh"

constexpr float kScaleX = 16.0f;

static enum status prepare(struct variant_context *context, struct error *error)
{
    return fused_prepare(context, kScaleX, error);
}

static enum status launch(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error)
{
    return fused_launch(context, d_x, d_y, images, stream, kScaleX, error);
}

const struct variant_ops fused_form_tile = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = fused_supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = launch,
    .release = fused_release,
};
