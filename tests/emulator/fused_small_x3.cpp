/* gpu/fused_small_x3.cu as the emulator runs it (tests/emulator/device.hpp). */
#define fused_form_small_x3 emulated_form_small_x3 /* beside the device's in one program */
#include "gpu/fused_small_x3.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_fused_small_x3, fused_form_small_x3)
