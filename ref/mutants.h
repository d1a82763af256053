/* Wrong kernels: each row of one table is the reference with one fault. A verifier that does not
 * reject them is not one (harness/cmd_audit.c); an output that looks like one of them says what its
 * kernel does wrong (harness/attribution.h).
 *
 * A fault is made of parts, all of which may be absent:
 *
 *     source    another image is read, or other elements of x
 *     tensors   x, W, conv_bias or bias is changed before it is used
 *     logits    the logits are changed, or made in another way
 *     form      the epilogue is of another form
 *     finish    the finished image is changed
 *     where     only these elements are wrong; the others are the reference's
 *
 * Everything but the fault is computed in double and rounded once. */
#ifndef ASSAY_REF_MUTANTS_H
#define ASSAY_REF_MUTANTS_H

#include "ref/problem.h"

/* One image on its way through a mutant. All arrays are the engine's. */
struct mutant_view {
    const struct problem *problem;
    int64_t image;          /* n */
    int64_t pixels;         /* output_h * output_w */
    const float *x;         /* [Cin, H, W], as the mutant reads it */
    const float *weight;    /* as the mutant has it */
    const float *conv_bias; /* may be NULL */
    const double *honest;   /* [Cout][pixels] the true logits, with conv_bias */
    const float *truth;     /* [Cout][pixels] the true output */
};

/* Tensors that a mutant may change; conv_bias is NULL where the problem has none. */
struct mutant_tensors {
    const struct problem *problem;
    float *x, *weight, *conv_bias, *bias;
};

enum softmax_axis { SOFTMAX_CHANNELS, SOFTMAX_ROWS, SOFTMAX_COLUMNS, SOFTMAX_NONE };

/* The epilogue; all zero is the true one. */
struct epilogue_form {
    enum softmax_axis axis;
    int64_t block;     /* softmax over blocks of so many channels; 0: over all */
    int64_t padded_to; /* channels counted up to a multiple, with logits of 0; 0: not */
    bool keep_maximum; /* exp(z) instead of exp(z - max), with fp32's range */
    bool bias_first;   /* bias is added to the logits */
    bool scale_first;  /* scale * p + bias */
    bool no_bias, no_scale;
    double (*exp)(double);     /* NULL: exp */
    double (*sigmoid)(double); /* NULL: 1 / (1 + exp(-t)) */
};

struct mutant {
    const char *name;
    const char *stage;   /* where the fault is */
    const char *summary; /* after "looks like" */
    bool removes_stage;  /* the whole stage is gone: sensitivity is measured by it */
    /* Wrong by no more than honest arithmetic of a wider class: told by its bound, but not a fault
     * that an output has to show. */
    bool arithmetic;

    int64_t (*image)(const struct problem *p, int64_t n); /* that is read instead of n */
    int64_t (*index)(int64_t i); /* element of the whole x that is read instead of i */
    void (*tensors)(struct mutant_tensors *t);
    void (*logits)(const struct mutant_view *v, double *z);
    struct epilogue_form form;
    void (*finish)(const struct mutant_view *v, float *y);
    bool (*where)(const struct mutant_view *v, int64_t c, int64_t h, int64_t w);
};

extern const struct mutant mutant_table[];
extern const size_t mutant_count;

/* ---- the general form that they are faults of -------------------------------------------------
 */

struct mutant_engine;

/* Buffers for one image at a time; `params` is borrowed. STATUS_ENVIRONMENT when memory is lacking.
 */
enum status mutant_engine_create(struct mutant_engine **engine, const struct problem *problem,
                                 const struct params *params, struct error *error);
void mutant_engine_free(struct mutant_engine *engine);

/* y [Cout, Ho, Wo] of image n as the mutant computes it, from the whole batch x. */
enum status mutant_run(struct mutant_engine *engine, const struct mutant *mutant, const float *x,
                       int64_t n, float *y, struct error *error);

/* The true output of the image that the last mutant_run() was about. */
const float *mutant_truth(const struct mutant_engine *engine);

#endif
