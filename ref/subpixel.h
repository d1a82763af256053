/* The sub-pixel decomposition of a transposed convolution.
 *
 * Along one axis, output o receives kernel tap k from input i where o + padding = i * stride +
 * k * dilation. Outputs of one residue ("phase") o = stride * a + r therefore use a fixed set of
 * taps, each at a fixed distance from a:  i = a + (r + padding - k * dilation) / stride. So every
 * phase is an ordinary small correlation of x, and no multiplication by an inserted zero is left.
 *
 * Phases whose taps lie at the same distances (after a is counted from where the first of them
 * starts) read the same input patch. They form a class: one matrix of shifted input pixels feeds
 * one GEMM for all of them. Kernel 4, stride 2 has one class of 2 x 2 phases with 2 x 2 taps:
 *
 *     input patch        outputs of patch (a, b), padding 1
 *     x[a-1,b-1] x[a-1,b]      y[2a-1,2b-1] y[2a-1,2b]
 *     x[a,  b-1] x[a,  b]      y[2a,  2b-1] y[2a,  2b]
 *
 * Kernel 3, stride 2 has four classes of one phase each, with 1 x 1, 1 x 2, 2 x 1, 2 x 2 taps. */
#ifndef ASSAY_REF_SUBPIXEL_H
#define ASSAY_REF_SUBPIXEL_H

#include "ref/problem.h"

/* One phase in its class, along one axis: outputs stride * a + offset for a in [first, end). */
struct axis_phase {
    int64_t offset;
    int64_t first, end;
    int64_t *taps; /* kernel index of each of the class's taps */
};

/* Phases of one axis with the same tap distances. */
struct axis_class {
    int64_t tap_count;  /* 0: outputs that no tap reaches */
    int64_t *distances; /* input index = a + distance, per tap; the largest is 0 */
    int64_t phase_count;
    struct axis_phase *phases;
    int64_t first, end; /* union of the phases' ranges of a */
};

struct axis_classes {
    int64_t count;
    struct axis_class *classes;
};

/* A rectangle of positions (a, b) of one (row class, column class) pair. */
struct strip {
    const struct axis_class *row_class, *column_class;
    int64_t class_index; /* row class index * column class count + column class index */
    int64_t a, rows;
    int64_t b, columns;
};

struct subpixel {
    struct problem problem;
    struct axis_classes rows, columns;
    struct strip *strips; /* every position of one image once */
    int64_t strip_count;
    int64_t max_positions;  /* largest rows * columns of a strip */
    int64_t phases_at_once; /* phases whose logits are held at a time */
    int64_t max_taps;       /* largest row taps * column taps of a strip */
};

/* Decomposes a validated problem and cuts an image in strips whose logits for `phases_at_once`
 * phases stay near `logit_budget` elements. */
enum status subpixel_init(struct subpixel *subpixel, const struct problem *problem,
                          int64_t logit_budget, struct error *error);
void subpixel_release(struct subpixel *subpixel);

#endif
