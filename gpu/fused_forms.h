/* Forms of variants that are not rows of the variant table (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_FORMS_H
#define ASSAY_GPU_FUSED_FORMS_H

#include "gpu/variant.h"

/* of gpu-fused-fp16 and of gpu-fused-fp16x3, gpu/fused_rows.cuh: rows of up to 129 outputs */
extern const struct variant_ops fused_form_rows, fused_form_rows_x3;
extern const struct variant_ops fused_form_split; /* of gpu-fused-fp16x3: gpu/fused_split.cuh */

#endif
