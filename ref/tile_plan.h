/* How the fp32 model cuts a problem: what is copied, what is multiplied at a time, and the weights
 * packed for it.
 *
 * Padded image. Rows of x are copied with `pitch` elements from one to the next, long enough that
 * the zeros behind one row are also the zeros before the next; images likewise, `image_rows` from
 * one to the next. So position (image n, a, b) lies at
 *
 *     q = ((n * image_rows + a) * pitch + b)      counted from the region's first a and first b
 *
 * and tap (dh, dw) of every position is found at a constant distance from it: blocks of positions
 * run on over rows and images, and end where the budget says. The home case computes 65 x 65
 * positions an image for 64.5 x 64.5 that are needed.
 *
 * Region: what one thread takes at a time: rows of one image, or whole small images.
 * Row group: phases of one row class that are computed together.
 * Block: positions of a region; C holds the logits of a row group's phases, all column classes,
 *     for them:  c[(row phase * stride_w + column phase) * Cout + channel][block]
 *     with the column phases in the order of their classes. */
#ifndef ASSAY_REF_TILE_PLAN_H
#define ASSAY_REF_TILE_PLAN_H

#include "ref/strip_kernels.h"
#include "ref/subpixel.h"

/* A product: one row group with one column class. */
struct plan_product {
    const struct axis_class *column_class;
    int64_t phase;    /* first column phase, in the order of classes */
    int64_t rows, k;  /* of W, for one group of channels */
    int64_t row_step; /* rows of C from one row of W to the next */
    int64_t parts;    /* products for a group: W's rows of one part follow each other in C */
    float *weights;   /* [group][part][rows * k]; NULL where k is 0, or W is not finite */
    int64_t *offsets; /* [k] */
};

struct row_group {
    const struct axis_class *row_class;
    int64_t first, count;          /* its phases */
    struct plan_product *products; /* [column classes] */
};

struct column_phase {
    const struct axis_class *column_class;
    int64_t phase;  /* in its class */
    int64_t offset; /* output column = stride_w * b + offset */
    int64_t place;  /* of its output among a position's, column_count of them side by side */
};

struct tile_plan {
    struct subpixel subpixel;
    const struct strip_kernels *kernels;
    bool by_definition;

    int64_t first_a, end_a, first_b, end_b; /* positions of all classes */
    int64_t first_row, first_column;        /* least input row and column that a tap reaches */
    int64_t pitch, image_rows;              /* elements, rows */
    int64_t reach;                          /* rows above a position that its taps reach */
    int64_t region_rows, region_images;     /* largest; several images only if all of their rows */
    int64_t padded_rows, plane;             /* of one channel of the largest region; elements */
    int64_t before;                         /* elements before the first plane that are read */

    int64_t block;        /* positions */
    int64_t group_phases; /* most row phases of a group */
    struct row_group *groups;
    int64_t group_count;
    struct column_phase *columns; /* [column_count] */
    int64_t column_count;
    bool columns_contiguous; /* a block's outputs are a contiguous part of each row */
    float *conv_bias;        /* [group_phases * column_count * Cout] */
    struct epilogue epilogue;
};

/* Every tensor of `params` is borrowed. STATUS_ENVIRONMENT when memory is lacking. */
enum status tile_plan_init(struct tile_plan *plan, const struct problem *problem,
                           const struct params *params, struct error *error);
void tile_plan_release(struct tile_plan *plan);

#endif
