/* The forms of gpu-fused-fp16: kernels for different shapes behind one row of the variant table,
 * which takes the first that supports the problem (internal to gpu/). */
#ifndef ASSAY_GPU_FUSED_FORMS_H
#define ASSAY_GPU_FUSED_FORMS_H

#include "gpu/variant.h"

extern const struct variant_ops fused_form_rows; /* gpu/fused_rows.cuh: rows of up to 129 outputs */
extern const struct variant_ops fused_form_tile; /* gpu/fused_tile.cuh: stride 2, any size */

#endif
