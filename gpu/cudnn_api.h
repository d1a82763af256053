/* What is used of cuDNN's graph interface, declared here so that its headers are not needed, and
 * loaded at run time (internal to gpu/). Names and values are those of cudnn_graph.h, version 9,
 * without its prefixes. */
#ifndef ASSAY_GPU_CUDNN_API_H
#define ASSAY_GPU_CUDNN_API_H

#include <cuda_runtime.h>
#include <stdint.h>

typedef void *cudnn_handle;
typedef void *cudnn_descriptor;

enum {
    TYPE_HANDLE = 0,
    TYPE_DATA_TYPE = 1,
    TYPE_INT64 = 3,
    TYPE_FLOAT = 4,
    TYPE_VOID_PTR = 6,
    TYPE_CONVOLUTION_MODE = 7,
    TYPE_HEUR_MODE = 8,
    TYPE_NUMERICAL_NOTE = 11,
    TYPE_DESCRIPTOR = 15,

    DESCRIPTOR_CONVOLUTION = 1,
    DESCRIPTOR_ENGINE = 2,
    DESCRIPTOR_ENGINECFG = 3,
    DESCRIPTOR_ENGINEHEUR = 4,
    DESCRIPTOR_PLAN = 5,
    DESCRIPTOR_BACKWARD_DATA = 12,
    DESCRIPTOR_GRAPH = 15,
    DESCRIPTOR_VARIANT_PACK = 16,
    DESCRIPTOR_TENSOR = 17,

    CONVOLUTION_COMP_TYPE = 100,
    CONVOLUTION_CONV_MODE = 101,
    CONVOLUTION_DILATIONS = 102,
    CONVOLUTION_STRIDES = 103,
    CONVOLUTION_POST_PADDINGS = 104,
    CONVOLUTION_PRE_PADDINGS = 105,
    CONVOLUTION_SPATIAL_DIMS = 106,
    HEUR_MODE = 200,
    HEUR_GRAPH = 201,
    HEUR_RESULTS = 202,
    ENGINECFG_ENGINE = 300,
    PLAN_HANDLE = 400,
    PLAN_ENGINE_CONFIG = 401,
    PLAN_WORKSPACE_SIZE = 402,
    BACKWARD_DATA_ALPHA = 706,
    BACKWARD_DATA_BETA = 707,
    BACKWARD_DATA_CONV = 708,
    BACKWARD_DATA_W = 709,
    BACKWARD_DATA_DX = 710,
    BACKWARD_DATA_DY = 711,
    GRAPH_HANDLE = 800,
    GRAPH_OPS = 801,
    TENSOR_ALIGNMENT = 900,
    TENSOR_DATA_TYPE = 901,
    TENSOR_DIMENSIONS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_UNIQUE_ID = 906,
    PACK_UNIQUE_IDS = 1000,
    PACK_POINTERS = 1001,
    PACK_WORKSPACE = 1003,
    ENGINE_GLOBAL_INDEX = 1301,
    ENGINE_NUMERICAL_NOTE = 1303,

    MODE_A = 3,
    MODE_FALLBACK = 2,
    CROSS_CORRELATION = 1,
    DATA_FLOAT = 0,

    NOTE_TENSOR_CORE = 0,
    NOTE_NONDETERMINISTIC = 4,
    NOTE_STRICT_NAN = 9,
    NOTE_COUNT = 10
};

struct cudnn_api {
    size_t (*version)(void);
    int (*create)(cudnn_handle *);
    int (*set_stream)(cudnn_handle, cudaStream_t);
    const char *(*error_string)(int);
    int (*descriptor_create)(int, cudnn_descriptor *);
    int (*descriptor_destroy)(cudnn_descriptor);
    int (*finalize)(cudnn_descriptor);
    int (*set)(cudnn_descriptor, int, int, int64_t, const void *);
    int (*get)(cudnn_descriptor, int, int, int64_t, int64_t *, void *);
    int (*execute)(cudnn_handle, cudnn_descriptor, cudnn_descriptor);
};

/* The functions, loaded on the first call; NULL with one line in `reason` where they are absent. */
const struct cudnn_api *cudnn_load(char *reason, size_t reason_size);

#endif
