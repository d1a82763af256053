/* gpu/dependent_launch.cuh of the emulator (tests/emulator/device.hpp): launches are in order. */
#ifndef ASSAY_GPU_DEPENDENT_LAUNCH_CUH
#define ASSAY_GPU_DEPENDENT_LAUNCH_CUH

static inline void dependents_may_launch(void)
{
}
static inline void wait_for_prerequisites(void)
{
}

#endif
