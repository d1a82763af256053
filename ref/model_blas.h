/* The whole model on the CPU in fp32 as the textbook has it: sub-pixel decomposition, one sgemm of
 * OpenBLAS for each strip of positions, then softmax, bias, scale and sigmoid by the C library. The
 * implementation `cpu-blas`.
 *
 * It shares nothing with ref/model_gemm.h and the oracle but the decomposition, so the three check
 * each other: other products, other exponentials, another order of summation. OpenMP threads take
 * strips; OpenBLAS runs on one thread in each. */
#ifndef ASSAY_REF_MODEL_BLAS_H
#define ASSAY_REF_MODEL_BLAS_H

#include "ref/problem.h"

struct model_blas;

/* Packs the weights. `params` is borrowed until the free. STATUS_UNSUPPORTED where a weight is not
 * finite: padding zeros stand in the matrices, and 0 * Inf is NaN. STATUS_ENVIRONMENT when memory
 * is lacking. */
enum status model_blas_create(struct model_blas **model, const struct problem *problem,
                              const struct params *params, struct error *error);
void model_blas_free(struct model_blas *model);

/* x [images, Cin, H, W] -> y [images, Cout, Ho, Wo], in host memory, not overlapping. The same bits
 * for any number of threads. */
enum status model_blas_run(struct model_blas *model, const float *x, float *y, int64_t images,
                           struct error *error);

#endif
