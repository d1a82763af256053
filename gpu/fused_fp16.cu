/* The whole model in one kernel on Hopper's tensor cores: x read once, y written once, nothing
 * between.
 *
 *     y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias, dim=1) + bias))
 *
 * Stride 2, kernels of up to 4 x 4, any padding and output_padding, up to 64 input and 128 output
 * channels, any batch, height and width. The kernel, its tile and who holds what:
 * gpu/fused_tile.cuh.
 *
 * Class tf32: fp16 keeps tf32's 10 bits. What it lacks is range, which powers of two give back: W
 * is scaled by its largest magnitude at prepare, x by 16, so that images whose largest |x| is
 * within [0.03125, 4094] keep the class's bound. The kernel notes the largest |x| of every image,
 * and gpu/fused_repair.cuh, which follows in the stream, computes the others again in IEEE fp32:
 * images out of range, with NaN or infinities, or all of them where a weight is not finite. A pass
 * over x beforehand would cost 31 us. The choice is an image's own, so bits don't depend on
 * slicing.
 *
 * Launch: 132 blocks of 384 threads, one a multiprocessor; 208 registers a consumer thread, 88 a
 * producer's, no spills; 214,216 bytes of shared memory (home case: weights 131,072, ring 41,088,
 * stages 40,960). Then the repair kernel, launched early and returning at once.
 *
 * Home case: 139.6 GFLOP (141.8 with the patches off the edge), 1.225 GB; floor 0.287 ms at the
 * measured copy rate of 4265 GB/s. H200, 2026-11-22, CUDA events, median of 30 over two rotating
 * pairs of buffers:
 *
 *     kernelbench data 0.688 ms (2.39 x floor, 203 TFLOP/s), conditioned data 0.70 ms
 *     largest error against fp64: 6.8e-7 and 4.8e-4; 0.65 of the class's bound at most
 *     one run beside PyTorch's numbers of the same day: eager tf32 8.06 ms, torch.compile 1.61 ms
 *
 * ncu, --clock-control none, 1.78 GHz, 672 us:
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
 *     0.961   four warpgroups, whole sectors: the last eight outputs of a channel go to the next
 * tile, which stores the shared sector (predicted 0.42). Stalls for stores are gone, but each tile
 * waited for all of its predecessor's third pass, and the store took 1540 instructions a warp and
 * tile for 512 outputs of a channel pair.
 *
 * Next: whole sectors without the wait (hand the carry on channel group by channel group) and with
 * precomputed windows; then both row phases of a channel in one block (64 channels x 4 phases,
 * cluster of two), so that the sector between two rows is whole as well. */
#include <string.h>

#include "gpu/choice.cuh"
#include "gpu/fused_forms.h"

static const struct variant_ops *const forms[] = {&fused_form_rows, &fused_form_tile};
static const struct choice_list list = {forms, sizeof forms / sizeof *forms, false};

static bool supports(const struct problem *problem, const struct cudaDeviceProp *device,
                     char *reason, size_t reason_size)
{
    return choice_supports(&list, problem, device, reason, reason_size);
}

static enum status prepare(struct variant_context *context, struct error *error)
{
    const enum status status = choice_prepare(&list, context, error);
    if (status == STATUS_OK)
        memcpy(context->note, ((const struct choice *)context->state)->context.note,
               sizeof context->note);
    return status;
}

const struct variant_ops variant_fused_fp16 = {
    .info = VARIANT_INFO(fused_fp16),
    .supports = supports,
    .workspace = NULL,
    .prepare = prepare,
    .launch = choice_launch,
    .release = choice_release,
};
