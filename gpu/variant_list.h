/* The table of variants, in one place: their names, what each is, and what it promises.
 *
 * Order is that of the ladder, and of every listing. gpu/variants.cu joins each row with the
 * kernels (`variant_<symbol>`, gpu/variant.h); gpu/gpu_stub.c lists the same rows in a build
 * without CUDA.
 *
 * `unit` and `passes` say what does the convolution's products and how many it spends on each, so
 * that the floor counts the right ceiling (gpu/gpu_timing.h).
 *
 * `verified` is false for a kernel whose committed form has not passed `verify` on a device yet: it
 * runs only where it is named.
 *
 *    symbol, name, summary, class, unit, passes, verified */
#ifndef ASSAY_GPU_VARIANT_LIST_H
#define ASSAY_GPU_VARIANT_LIST_H

#define GPU_VARIANT_LIST(X)                                                                        \
    X(unfused, "gpu-unfused", "five steps, each its own kernel", CLASS_FP32, GPU_UNIT_FP32, 1,     \
      true)                                                                                        \
    X(post_softmax, "gpu-post-softmax",                                                            \
      "convolution and softmax apart; add, scale and sigmoid in one kernel", CLASS_FP32,           \
      GPU_UNIT_FP32, 1, true)                                                                      \
    X(block_per_pixel, "gpu-block-per-pixel",                                                      \
      "convolution apart; softmax .. sigmoid with a block for each pixel", CLASS_FP32,             \
      GPU_UNIT_FP32, 1, true)                                                                      \
    X(post_conv, "gpu-post-conv", "convolution apart; softmax .. sigmoid in one coalesced pass",   \
      CLASS_FP32, GPU_UNIT_FP32, 1, true)                                                          \
    X(fused_fp32, "gpu-fused-fp32", "one kernel, IEEE fp32; the logits never leave the chip",      \
      CLASS_FP32, GPU_UNIT_FP32, 1, true)                                                          \
    X(fused_fp16, "gpu-fused-fp16",                                                                \
      "tensor cores on fp16; weights on chip where they fit, else streamed", CLASS_TF32,           \
      GPU_UNIT_FP16, 1, true)                                                                      \
    X(fused_fp16x3, "gpu-fused-fp16x3",                                                            \
      "tensor cores on split fp16, three products; weights on chip where they fit", CLASS_FP32,    \
      GPU_UNIT_FP16, 3, true)                                                                      \
    X(stream_fp16, "gpu-stream-fp16", "any shape; tensor cores on fp16, weights streamed",         \
      CLASS_TF32, GPU_UNIT_FP16, 1, true)                                                          \
    X(stream_fp16x3, "gpu-stream-fp16x3", "any shape; tensor cores on split fp16, three products", \
      CLASS_FP32, GPU_UNIT_FP16, 3, true)                                                          \
    X(cudnn_unfused, "cudnn-unfused", "cuDNN's convolution in fp32, then four kernels",            \
      CLASS_FP32, GPU_UNIT_FP32, 1, true)                                                          \
    X(cudnn_unfused_tf32, "cudnn-unfused-tf32", "cuDNN's convolution in tf32, then four kernels",  \
      CLASS_TF32, GPU_UNIT_TF32, 1, true)                                                          \
    X(cudnn_post_conv, "cudnn-post-conv", "cuDNN's convolution in fp32, then one pass",            \
      CLASS_FP32, GPU_UNIT_FP32, 1, true)                                                          \
    X(cudnn_post_conv_tf32, "cudnn-post-conv-tf32", "cuDNN's convolution in tf32, then one pass",  \
      CLASS_TF32, GPU_UNIT_TF32, 1, true)                                                          \
    X(auto, "gpu-auto", "the fastest variant that supports the problem at the asked class",        \
      CLASS_FP32, GPU_UNIT_FP32, 1, true)

#endif
