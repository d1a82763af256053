/* The whole model on the CPU in fp32: sub-pixel GEMMs with the epilogue fused strip by strip, so
 * that logits never leave the caches. The implementation `cpu-gemm`. */
#ifndef ASSAY_REF_MODEL_GEMM_H
#define ASSAY_REF_MODEL_GEMM_H

#include "ref/problem.h"

struct model_gemm;

/* Packs the weights. `params` is borrowed until the free. The OpenMP threads of the caller are
 * used by every run; OpenBLAS is told to use one thread in each of them. STATUS_ENVIRONMENT when
 * memory is lacking. */
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
