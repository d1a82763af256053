/* gpu/fused_rows.cu as the emulator runs it (tests/emulator/device.hpp). */
#define fused_form_rows emulated_form_rows /* beside the device's in one program */
#include "gpu/fused_rows.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_fused_rows, fused_form_rows)
