/* gpu/fused_small.cu as the emulator runs it (tests/emulator/device.hpp). */
#define fused_form_small emulated_form_small /* beside the device's in one program */
#include "gpu/fused_small.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_fused_small, fused_form_small)
