/* What timing an implementation yields: samples, and what is needed to judge them. Plain data, so
 * that it can stand in memory shared with the measured process. */
#ifndef ASSAY_HARNESS_MEASUREMENT_H
#define ASSAY_HARNESS_MEASUREMENT_H

#include <stdbool.h>
#include <stdint.h>

#define MEASUREMENT_SAMPLES 4096

/* When to stop: at `samples` samples where that is not 0; else after at least `min_samples`, once
 * the median's 95 % confidence interval is within half_width of the median on either side, or once
 * `budget_s` seconds are spent. */
struct measurement_plan {
    int64_t samples;
    int64_t min_samples;
    double half_width;
    double budget_s;
    bool profile; /* run once, untimed, for an outside profiler */
};

struct measurement {
    int64_t count;
    double samples_s[MEASUREMENT_SAMPLES]; /* one run of the whole batch each, in order */
    int64_t rounds;   /* in which they were taken, count / rounds in each, turn about with the other
                         implementations of the run; 0: in one go */
    int64_t rotation; /* the last sample's x is the case's, rotated (arena_rotate_input) */
    double prepare_s; /* packing weights and the like */
    double conv_s, epilogue_s; /* where a CPU run's time went, mean of the samples (see
                                  measurement_stage); 0: not known */
    double h2d_s, d2h_s;       /* copies of the host's tensors, GPU only */

    /* Ceilings of the same run; 0: not measured. */
    double ceiling_gflops; /* of the arithmetic that the class uses */
    double ceiling_fp16_tflops, ceiling_fp32_tflops, ceiling_tf32_tflops;
    double ceiling_copy_gbytes_per_s; /* bytes read + bytes written */
    double ceiling_write_gbytes_per_s;
    double floor_s;    /* 0: no floor known */
    char bound_by[16]; /* "bytes", "tensor" or "fp32" */

    char device[128];
    char driver[64];
    int sm_clock_min_mhz, sm_clock_max_mhz, memory_clock_mhz; /* over the samples; 0: not known */
    char throttle[128]; /* reasons seen, comma-separated; empty: none */
    int threads;
    char note[256]; /* what the implementation chose */
};

#endif
