/* Bring your own kernel: what a shared library has to export to be verified and timed as
 * `plugin:PATH.so`.
 *
 * This file stands alone: copy it, or compile with -I to it. C11 and C++. One symbol is looked up,
 *
 *     const struct assay_plugin *assay_plugin(void);
 *
 * and everything else is reached through the struct that it returns. Build and run:
 *
 *     cc   -O2 -shared -fPIC -Iharness -o mine.so mine.c                   host pointers
 *     nvcc -O2 -shared -Xcompiler -fPIC -Iharness -o mine.so mine.cu       device pointers
 *     assay verify --impl plugin:./mine.so home@mb1
 *
 * Examples: tests/examples/plugin_host.c, tests/examples/plugin_cuda.cu.
 *
 * What is computed, for contiguous fp32 tensors:
 *
 *     y = sigmoid(scaling_factor * (softmax(conv_transpose2d(x, W) + conv_bias, dim = 1) + bias))
 *
 *     x          [batch, in_channels, height, width]
 *     W, weight  [in_channels, out_channels / groups, kernel_h, kernel_w]
 *     conv_bias  [out_channels], or NULL
 *     bias       [bias_count], bias_count is out_channels, or 1 (broadcast)
 *     y          [batch, out_channels, output_h, output_w]
 *
 * What is watched. The library runs in a process of its own; a crash or a hang ends that process
 * and is reported. Memory around every buffer is guarded and holds NaNs, as the workspace does at
 * first; inputs are hashed before and after, y holds a pattern before each run that is different
 * from run to run, x is changed between runs, run() must have finished all its work (on the host:
 * in every thread; on the device: whatever it enqueued on any stream counts, and is waited for)
 * when it returns. The parameters stay the same from prepare() to release(); weights may be packed
 * in prepare(), which is not timed. release() is watched as run() is. */
#ifndef ASSAY_PLUGIN_H
#define ASSAY_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a member changes its meaning; members are only ever added at the end. */
#define ASSAY_PLUGIN_ABI 1

/* torch.nn.ConvTranspose2d's arguments, validated as PyTorch validates them. */
struct assay_plugin_problem {
    int64_t batch, in_channels, out_channels;
    int64_t height, width;
    int64_t output_h, output_w;
    int64_t kernel_h, kernel_w;
    int64_t stride_h, stride_w;
    int64_t padding_h, padding_w;
    int64_t output_padding_h, output_padding_w;
    int64_t dilation_h, dilation_w;
    int64_t groups;
    int64_t bias_count;
    float scaling_factor;
};

/* Where every pointer of a call lies, workspace included. */
enum assay_memory {
    ASSAY_MEMORY_HOST = 0,
    ASSAY_MEMORY_DEVICE = 1 /* CUDA, current device; aligned as cudaMalloc aligns */
};

/* What each function is handed. All of it belongs to assay; only y, the workspace and `state` may
 * be written. Aligned to 64 bytes at least. */
struct assay_call {
    const struct assay_plugin_problem *problem;
    const float *weight, *conv_bias, *bias;
    const float *x; /* run() only */
    float *y;       /* run() only */
    void *workspace;
    size_t workspace_size; /* what workspace() asked for */
    void *stream;          /* cudaStream_t to enqueue on; NULL for host memory */
    int threads;           /* CPU threads asked for */
    void *state;           /* prepare() may set it; the others get it */
    char *reason;          /* one line on why a function failed, 0-terminated; may be left empty */
    size_t reason_size;
};

struct assay_plugin {
    int32_t abi;                  /* ASSAY_PLUGIN_ABI */
    int32_t memory;               /* enum assay_memory */
    const char *name;             /* for reports */
    const char *arithmetic_class; /* what is promised: "fp32", "tf32", "bf16", "fp16x3", "bf16x3" or
                                     "fp64"; the tolerance is derived from it */

    /* 0: this problem is computed; else it is skipped, with the reason. NULL: all are. */
    int (*supports)(struct assay_call *call);

    /* Bytes of scratch memory that prepare() and run() need. NULL: none. */
    size_t (*workspace)(const struct assay_plugin_problem *problem);

    /* Once for a problem and its parameters, before the first run. 0: well. NULL: nothing to do. */
    int (*prepare)(struct assay_call *call);

    /* y = model(x), the whole batch. 0: well. Called many times. */
    int (*run)(struct assay_call *call);

    /* Frees `state`. NULL: nothing to free. */
    void (*release)(struct assay_call *call);
};

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct assay_plugin *
assay_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
