/* A fast 64-bit hash of tensors: to find that bytes changed, not to withstand a forger. */
#ifndef ASSAY_HARNESS_TENSOR_HASH_H
#define ASSAY_HARNESS_TENSOR_HASH_H

#include <stdint.h>

/* Of `count` floats, bit for bit (-0 is not 0), on the caller's OpenMP threads; the same for any
 * number of them. */
uint64_t tensor_hash(const float *values, int64_t count);

#endif
