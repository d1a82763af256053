/* Timing a plan on the device, and the ceilings that its time is judged by. A C API; every function
 * is to be called from the process that holds the plan.
 *
 *     struct gpu_ceilings ceilings;                          // once a process
 *     gpu_ceilings_measure(device, &ceilings, &error);
 *     gpu_plan_create(&plan, ...);                           // for each case
 *     gpu_timing_create(&timing, plan, x, &error);           // uploads, warms up
 *     gpu_timing_run(timing, &rule, &error);                 // samples until the rule is met
 *     result = gpu_timing_result(timing, &ceilings);         // samples, median, floor, clocks
 *     gpu_timing_output(timing, i, y, &error);               // each i < gpu_timing_outputs()
 *     gpu_timing_free(timing);
 *     gpu_plan_free(plan);
 *
 * One sample is one launch of the plan on one set of buffers, from before its first kernel starts
 * to after its last ends, by CUDA events; the device is kept busy until the whole launch is
 * enqueued, so that no time of the host is in it.
 *
 *   - Two groups of x and y take turns, and what is smaller than twice the L2 is flushed from it
 *     before a sample: neither x nor y starts in L2. The persisting part of L2 is reset.
 *   - Set s holds the caller's images rotated by s, so that no two neighbouring samples have the
 *     same input, and y is filled with one of two poisons before each sample.
 *   - After the stop event the whole device is synchronised; work that outlives the event by more
 *     than 0.1 ms is added to the sample, and counted in `late_samples`.
 *   - A launch shorter than 30 us is captured with others, each on its own set, in one graph;
 *     samples are then a graph's time over its launches (`launches_per_sample`).
 *   - Every sample's y is hashed on the device, image by image: `differing_samples` counts those
 *     that are not bit for bit the first sample's. So verifying the last sample's y verifies all.
 *     Not where gpu_plan_varies().
 *
 * Throttle reasons and clocks are read from NVML between samples, at most 50 times a second. */
#ifndef ASSAY_GPU_GPU_TIMING_H
#define ASSAY_GPU_GPU_TIMING_H

#include "gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GPU_TIMING_SAMPLES 4096

/* ---- ceilings ------------------------------------------------------------------------------- */

/* 0 where one could not be measured (no cuBLAS). */
struct gpu_ceilings {
    double copy_gbytes_per_s;                     /* bytes read + bytes written, 2 GiB to 2 GiB */
    double write_gbytes_per_s;                    /* 2 GiB */
    double fp16_tflops, tf32_tflops, fp32_tflops; /* cuBLAS, 8192^3, random data */
    char cublas[160];                             /* version, or why it is absent */
};

/* Takes about a second, most of it loading cuBLAS. Needs 4.3 GB of device memory for a while; less
 * where less is free. */
enum status gpu_ceilings_measure(int device, struct gpu_ceilings *ceilings, struct error *error);

/* The time that no honest run of `images` images can beat:
 *
 *     floor_s = max(bytes / copy ceiling, passes * flops / ceiling of the variant's unit)
 *
 * with problem_bytes() and problem_flops() for that many images. bound_by: "bytes", "tensor" or
 * "fp32". Returns 0 and "" where the ceilings are not known.
 *
 * NOTE: a y that fits in L2 need not have reached device memory when the launch ends, so below a
 * few times the L2's size the byte time is a yardstick and not a bound. */
double gpu_floor(const struct problem *problem, int64_t images, const struct gpu_variant *variant,
                 const struct gpu_ceilings *ceilings, const char **bound_by);

/* ---- timing --------------------------------------------------------------------------------- */

/* When to stop: at `samples` samples where that is not 0; else after at least `min_samples` (0: 10)
 * once the 95 % confidence interval of the median lies within half_width (0: 0.005) of the median
 * on either side, or once budget_s (0: 10) seconds are spent, or GPU_TIMING_SAMPLES are taken. */
struct gpu_timing_rule {
    int64_t samples, min_samples;
    double half_width, budget_s;
};

/* The names are those of the record's keys, where it has them. */
struct gpu_timing_result {
    int64_t count;
    double samples_s[GPU_TIMING_SAMPLES];
    double median_s, ci_low_s, ci_high_s; /* 95 %, distribution-free */
    int64_t images;                       /* that one launch took: the batch, or gpu_plan_slice() */
    int launches_per_sample;              /* more than 1: graph replay */
    int sets;                             /* of x and y, in turn */
    int64_t late_samples, differing_samples;

    double h2d_s, d2h_s; /* copies of x and y between pageable host memory and the device */

    double floor_s, over_floor; /* median_s / floor_s; 0 where there is no floor */
    char bound_by[16];
    struct gpu_ceilings ceilings;

    char device[128], driver[64];
    int sm_clock_min_mhz, sm_clock_max_mhz, memory_clock_mhz; /* over the samples; 0: no NVML */
    char throttle[128]; /* reasons seen over the samples, comma-separated */
};

struct gpu_timing;

/* Buffers, inputs, warm-up. x: host, [batch, Cin, H, W], or NULL for uniform random numbers. */
enum status gpu_timing_create(struct gpu_timing **timing, struct gpu_plan *plan, const float *x,
                              struct error *error);
void gpu_timing_free(struct gpu_timing *timing);

/* Takes one more sample: for a caller that interleaves plans. */
enum status gpu_timing_sample(struct gpu_timing *timing, struct error *error);

/* Takes samples until the rule is met; adds to those there are. */
enum status gpu_timing_run(struct gpu_timing *timing, const struct gpu_timing_rule *rule,
                           struct error *error);

/* Sums up what was sampled so far; the ceilings may be NULL. Valid until the next call for this
 * timing. */
const struct gpu_timing_result *gpu_timing_result(struct gpu_timing *timing,
                                                  const struct gpu_ceilings *ceilings);

/* How many y buffers the last sample's launches wrote, and the index-th of them, copied to host
 * y [images, Cout, Ho, Wo] in the order of the caller's images (the rotation undone). */
int gpu_timing_outputs(const struct gpu_timing *timing);
enum status gpu_timing_output(struct gpu_timing *timing, int index, float *y, struct error *error);

/* Runs the plan once, after one run that warms up, between cudaProfilerStart and cudaProfilerStop:
 * for `ncu --profile-from-start off`. */
enum status gpu_plan_profile(struct gpu_plan *plan, struct error *error);

#ifdef __cplusplus
}
#endif
#endif
