/* How a kernel becomes a row of the variant table (internal to gpu/; C++ and CUDA headers allowed).
 *
 * A kernel file defines one `const struct variant_ops variant_<symbol>` and has one row in
 * gpu/variant_list.h, from where it takes its `info` (VARIANT_INFO). The runtime (gpu/runtime.cu)
 * owns everything else: the device, the copies of the parameters, slicing the batch, streams and
 * errors. */
#ifndef ASSAY_GPU_VARIANT_H
#define ASSAY_GPU_VARIANT_H

#include <cuda_runtime.h>

#include "gpu/gpu.h"
#include "gpu/variant_list.h"

struct variant_context {
    struct problem problem;   /* as validated; problem.batch is the whole batch */
    struct params h_params;   /* host copies, live as long as the plan */
    const float *d_weight;    /* device copies in PyTorch's layout */
    const float *d_conv_bias; /* zeros where the problem has none, so never NULL */
    const float *d_bias;      /* always [out_channels]: one element is broadcast when copied */
    int64_t slice;            /* images that one launch may be given */
    int device;
    const struct cudaDeviceProp *properties; /* of the device */
    int multiprocessors;
    enum arithmetic_class cls; /* the class asked for (gpu-auto) */
    void *state;               /* the variant's own; freed by its release() */
    bool varies;               /* bits may change from run to run; set by prepare() */
    char note[256];
};

struct variant_ops {
    struct gpu_variant info;

    /* False and a reason where the variant cannot compute the problem. Looks at the problem and the
     * device's properties only; needs no allocation. */
    bool (*supports)(const struct problem *problem, const struct cudaDeviceProp *device,
                     char *reason, size_t reason_size);

    /* Bytes of device workspace that a slice of `images` images needs beyond x and y. May be NULL:
     * none. Used to choose the slice before prepare(). */
    size_t (*workspace)(const struct problem *problem, int64_t images);

    /* Packs weights, allocates the workspace for context->slice images, sets kernel attributes;
     * keeps what it makes in context->state. May be NULL. */
    enum status (*prepare)(struct variant_context *context, struct error *error);

    /* Enqueues the kernels for `images` <= slice images. Allocates nothing, does not synchronise.
     */
    enum status (*launch)(struct variant_context *context, const float *d_x, float *d_y,
                          int64_t images, cudaStream_t stream, struct error *error);

    /* Frees context->state. May be NULL; context->state may be NULL or half made. */
    void (*release)(struct variant_context *context);
};

/* The row of gpu/variant_list.h, to initialise variant_<symbol>.info with. */
#define VARIANT_INFO(symbol) variant_info_##symbol
#define X(symbol, name, summary, cls, unit, passes, verified)                                      \
    [[maybe_unused]] static constexpr struct gpu_variant variant_info_##symbol = {                 \
        name, summary, cls, unit, passes, verified};                                               \
    extern const struct variant_ops variant_##symbol;
GPU_VARIANT_LIST(X)
#undef X

/* The table, in the order of the ladder; gpu/variants.cu. */
extern const struct variant_ops *const variant_table[];
extern const size_t variant_table_count;

/* The row that does the work: for a prepared gpu-auto the one it chose, else `ops`. */
const struct variant_ops *variant_resolve(const struct variant_ops *ops,
                                          const struct variant_context *context);

#endif
