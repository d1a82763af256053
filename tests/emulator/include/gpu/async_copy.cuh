/* gpu/async_copy.cuh of the emulator (tests/emulator/device.hpp). */
#ifndef ASSAY_GPU_ASYNC_COPY_CUH
#define ASSAY_GPU_ASYNC_COPY_CUH

#include "tests/emulator/device.hpp"

void copy_4(uint32_t destination, const void *source, uint32_t bytes);
void copy_16(uint32_t destination, const void *source, uint32_t bytes);
void copy_arrive(uint32_t barrier);
void copy_wait_all(void);

#endif
