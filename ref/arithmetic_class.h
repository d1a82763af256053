/* Arithmetic classes: what an implementation promises about its rounding.
 *
 * A class says how operands of the convolution's products are rounded and how they are summed; the
 * epilogue (softmax .. sigmoid) is fp32 in every class but fp64. The error bound (ref/bound.h) is
 * derived from these numbers, and from nothing else about the implementation.
 *
 * Ordered from the narrowest error to the widest. */
#ifndef ASSAY_REF_ARITHMETIC_CLASS_H
#define ASSAY_REF_ARITHMETIC_CLASS_H

#include "ref/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/*    id            name      operand   operand   operand   quantum  accumulation  products
 *                            worst     bias      random             unit          per tap */
#define ARITHMETIC_CLASS_LIST(X)                                                                   \
    X(CLASS_FP64, "fp64", 0.0, 0.0, 0.0, 0.0, 0x1p-53, 1,                                          \
      "IEEE double, rounded to fp32 at the end")                                                   \
    X(CLASS_FP32, "fp32", 0.0, 0.0, 0.0, 0.0, 0x1p-24, 1, "IEEE single throughout")                \
    X(CLASS_FP16X3, "fp16x3", 0x1p-21, 0.0, 0x1p-21, 0x1p-24, 0x1p-22, 3,                          \
      "operands split in two fp16 halves, three products, fp32 accumulation in tensor cores")      \
    X(CLASS_BF16X3, "bf16x3", 0x1p-16, 0.0, 0x1p-16, 0.0, 0x1p-22, 3,                              \
      "operands split in two bf16 halves, three products, fp32 accumulation in tensor cores")      \
    X(CLASS_TF32, "tf32", 0x1p-10, 0x1p-11, 0x1p-11, 0x1p-24, 0x1p-22, 1,                          \
      "operands kept to 10 bits (tf32 rounded or truncated, fp16 scaled by powers of two), fp32 "  \
      "accumulation")                                                                              \
    X(CLASS_BF16, "bf16", 0x1p-8, 0.0, 0x1p-9, 0.0, 0x1p-22, 1,                                    \
      "operands rounded to bf16, fp32 accumulation")

enum arithmetic_class {
#define X(id, name, worst, bias, random, quantum, accumulation, products, summary) id,
    ARITHMETIC_CLASS_LIST(X)
#undef X
        CLASS_COUNT
};

struct arithmetic_class_info {
    const char *name;
    double operand_worst;  /* relative error of one rounded operand, worst case (truncation) */
    double operand_bias;   /* its mean, as the class typically rounds: truncation shrinks */
    double operand_random; /* largest deviation from that mean */
    double quantum;        /* absolute error of an operand, over the tensor's largest magnitude */
    double accumulation;   /* unit roundoff of one addition */
    int products;          /* products summed for each tap and channel */
    const char *summary;
};

const struct arithmetic_class_info *arithmetic_class_get(enum arithmetic_class cls);

/* STATUS_OK and *cls, or STATUS_BAD_INPUT with the names that exist. */
enum status arithmetic_class_parse(const char *name, enum arithmetic_class *cls,
                                   struct error *error);

#ifdef __cplusplus
}
#endif
#endif
