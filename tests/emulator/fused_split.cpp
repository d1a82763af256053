/* gpu/fused_split.cu as the emulator runs it (tests/emulator/device.hpp). */
#define fused_form_split emulated_form_split /* beside the device's in one program */
#include "gpu/fused_split.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_fused_split, fused_form_split)
