/* Clocks and throttle reasons from NVML, loaded at run time (internal to gpu/). Where NVML is
 * absent everything reads 0 and nothing fails. */
#ifndef ASSAY_GPU_NVML_H
#define ASSAY_GPU_NVML_H

#include <stddef.h>
#include <stdint.h>

struct nvml_reading {
    unsigned sm_clock_mhz, memory_clock_mhz, sm_clock_max_mhz;
    unsigned long long throttle; /* NVML's bit mask of clocks event reasons; idle masked out */
    unsigned power_mw, temperature_c;
};

/* Of a CUDA device (not NVML's numbering). */
void nvml_read(int device, struct nvml_reading *reading);

/* Names of the set bits, comma-separated; "" for 0. */
void nvml_throttle_text(unsigned long long throttle, char *text, size_t size);

#endif
