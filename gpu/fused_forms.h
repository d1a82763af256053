/* Forms of variants that are not rows of the variant table, and what decides between them (internal
 * to gpu/). */
#ifndef ASSAY_GPU_FUSED_FORMS_H
#define ASSAY_GPU_FUSED_FORMS_H

#include "gpu/variant.h"

/* of gpu-fused-fp16 and of gpu-fused-fp16x3, gpu/fused_rows.cuh: rows of up to 129 outputs */
extern const struct variant_ops fused_form_rows, fused_form_rows_x3;
/* of the same, gpu/fused_small.cuh: one launch, few tiles */
extern const struct variant_ops fused_form_small, fused_form_small_x3;
extern const struct variant_ops fused_form_split; /* of gpu-fused-fp16x3: gpu/fused_split.cuh */

/* How many tiles of gpu/fused_small.cuh, of 64 patches by a row phase and up to 128 channels, each
 * place on the device computes one after the other: one place a multiprocessor, or two where there
 * are up to 64 channels. An estimate, of the whole batch: a choice by it does not depend on slices.
 */
static inline double fused_rounds(const struct problem *p, const struct cudaDeviceProp *device)
{
    const double patches =
        (double)p->batch * (double)problem_output_h(p) * (double)(problem_output_w(p) / 2 + 1);
    return patches / 64 / (device->multiProcessorCount * (p->out_channels > 64 ? 1.0 : 2.0));
}

#endif
