/* Kernels of gpu/ on the CPU, thread by thread (tests/emulator/device.hpp): their host side too,
 * from supports() to launch(). */
#ifndef ASSAY_TESTS_EMULATOR_EMULATE_H
#define ASSAY_TESTS_EMULATOR_EMULATE_H

#include "ref/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* On a device of so many multiprocessors; y begins `offset` floats into its allocation and is
 * overwritten; what is not written keeps its bits. `seed`: the order of everything that the device
 * leaves open. STATUS_UNSUPPORTED with the reason; a failure of the kernel's own ends the process.
 */
typedef enum status emulated_variant(const struct problem *problem, const struct params *params,
                                     const float *x, float *y, int multiprocessors, int offset,
                                     unsigned seed, struct error *error);

emulated_variant emulate_fused_rows;     /* gpu/fused_rows.cu */
emulated_variant emulate_fused_rows_x3;  /* gpu/fused_rows_x3.cu */
emulated_variant emulate_fused_small;    /* gpu/fused_small.cu */
emulated_variant emulate_fused_small_x3; /* gpu/fused_small_x3.cu */
emulated_variant emulate_fused_split;    /* gpu/fused_split.cu */
emulated_variant emulate_stream_fp16;    /* gpu/stream_fp16.cu */
emulated_variant emulate_stream_fp16x3;  /* gpu/stream_fp16x3.cu */

#ifdef __cplusplus
}
#endif

#endif
