/* gpu/fused_fp16x3.cu as the emulator runs it (tests/emulator/device.hpp). */
#define variant_fused_fp16x3 emulated_fused_fp16x3 /* beside the device's in one program */
#include "gpu/fused_fp16x3.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_fused_fp16x3, variant_fused_fp16x3)
