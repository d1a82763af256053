/* cuDNN's convolution, backward with respect to its data, which is conv_transpose2d; loaded at run
 * time (internal to gpu/). */
#ifndef ASSAY_GPU_CUDNN_H
#define ASSAY_GPU_CUDNN_H

#include "gpu/variant.h"

/* "9.19.0", or why cuDNN cannot be used. True where it can. */
bool cudnn_version(char *text, size_t size);

#endif
