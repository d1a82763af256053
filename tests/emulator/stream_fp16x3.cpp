/* gpu/stream_fp16x3.cu as the emulator runs it (tests/emulator/device.hpp). */
#define variant_stream_fp16x3 emulated_stream_fp16x3 /* beside the device's in one program */
#include "gpu/stream_fp16x3.cu"

#include "tests/emulator/variant.hpp"

EMULATED_VARIANT(emulate_stream_fp16x3, variant_stream_fp16x3)
