/* The whole model on the CPU in fp32: the implementation `cpu-gemm`.
 *
 * A thread takes a region of x (rows of an image, or a few small images), copies it with its zeros
 * (ref/tile_plan.h), and goes through it in blocks of positions: the product that gives the logits
 * of all channels and of the phases that share an output row (ref/tile_product.h), then softmax and
 * sigmoid on the block while it lies in L2 (ref/tile_epilogue.h), then whole cache lines of
 * finished rows past the caches to y. Logits never leave L2; x is read from memory once, y is
 * written once.
 *
 * Home case, one core of Zen 4 (3.65 GHz: 117 GFLOP/s), AVX-512, one block of 192 positions and two
 * phases, least of thousands of runs while other programs ran; OpenBLAS 0.3.21 reaches 103 GFLOP/s
 * in the same minute:
 *
 *                                     microseconds    ns an output    share of the block
 *     product, 256 x 256 x 192             217            4.42             89 %
 *     softmax (maximum, 2^t, sum)            9            0.19              4 %
 *     sigmoid, interleaving, storing        18            0.36              7 %
 *
 * The whole model, home@mb8, two cores with nothing else running, median of 56 runs: 46.9 ms,
 * 182 GFLOP/s, 89 % of OpenBLAS's sgemm in the same run (204.5); the products alone 105 %, the
 * epilogue 7.2 ms, 4.7 of which blocks in the caches would take. PyTorch
 * 2.15 on the same two cores: 234 ms.
 *
 * Memory beside x and y: 0.5 MiB of packed weights and 1.2 MiB a thread in the home case; at the
 * most 21 MiB on one thread (dcgan-2, 16 MiB of which are its weights) and 2.9 MiB a thread on 16,
 * of data/suites/networks.txt.
 *
 * Copying the region costs less than 1 %, positions that nobody needs cost 1.6 %. The product
 * runs at 99 % of what the core's FMA units can do (AVX2: 98 %, SSE2, which has no FMA: 25 %). */
#ifndef ASSAY_REF_MODEL_GEMM_H
#define ASSAY_REF_MODEL_GEMM_H

#include "ref/problem.h"

struct model_gemm;

/* Packs the weights. `params` is borrowed until the free. Every run uses the caller's OpenMP
 * threads and no library's. STATUS_ENVIRONMENT when memory is lacking. */
enum status model_gemm_create(struct model_gemm **model, const struct problem *problem,
                              const struct params *params, struct error *error);
void model_gemm_free(struct model_gemm *model);

/* Seconds summed over threads, divided by the threads: where the time of a run went. */
struct model_gemm_stages {
    double conv_s, epilogue_s;
};

/* x [images, Cin, H, W] -> y [images, Cout, Ho, Wo], both in host memory, not overlapping. The same
 * bits for any number of threads. `stages` may be NULL. */
enum status model_gemm_run(struct model_gemm *model, const float *x, float *y, int64_t images,
                           struct model_gemm_stages *stages, struct error *error);

#endif
