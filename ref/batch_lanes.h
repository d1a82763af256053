/* Small images of a large batch: the vector's lanes are images.
 *
 * Blocks of positions (ref/tile_plan.h) waste what lies on an image's rim: 4 x 4 pixels with kernel
 * 4 and stride 2 compute 25 patches of 16 taps where 3.06 of every 4 taps exist, 1.63 times the
 * work; a 1 x 1 image with kernel 4 computes 16 times the work. With x as [Cin][H][W][N] every
 * output pixel is a product of its own, of exactly the taps that it has:
 *
 *     logits[channel, n] = conv_bias
 *                          + sum over its taps and ic of W[channel, (tap, ic)] x[ic, pixel, n]
 *
 * An item is one output row of LANES_BLOCK images; C holds its logits [Wo][Cout][LANES_BLOCK]. The
 * epilogue is that of the other blocks, with the columns of the row in place of the phases. */
#ifndef ASSAY_REF_BATCH_LANES_H
#define ASSAY_REF_BATCH_LANES_H

#include "ref/model_gemm.h"
#include "ref/tile_plan.h"

struct batch_lanes;

/* Whether the problem's images are so small, and so many, that this form is the faster one. */
bool batch_lanes_pays(const struct tile_plan *plan);

/* `plan` is borrowed. STATUS_ENVIRONMENT when memory is lacking. */
enum status batch_lanes_create(struct batch_lanes **lanes, const struct tile_plan *plan,
                               const float *weight, struct error *error);
void batch_lanes_free(struct batch_lanes *lanes);

/* As model_gemm_run. */
enum status batch_lanes_run(const struct batch_lanes *lanes, const float *x, float *y,
                            int64_t images, struct model_gemm_stages *stages, struct error *error);

#endif
