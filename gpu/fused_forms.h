/* The form of gpu-fused-fp16 that is not a row of the variant table (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_FORMS_H
#define ASSAY_GPU_FUSED_FORMS_H

#include "gpu/variant.h"

extern const struct variant_ops fused_form_rows; /* gpu/fused_rows.cuh: rows of up to 129 outputs */

#endif
