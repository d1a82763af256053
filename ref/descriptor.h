/* The problem descriptor: a problem in one word, e.g.
 *
 *     mb128ic64ih64oc128kh4sh2ph1oph1
 *
 * key   meaning            default      key      meaning                       default
 * mb    batch              1            kh, kw   kernel                        none; kw = kh
 * ic    in_channels        none         sh, sw   stride                        1;    sw = sh
 * oc    out_channels       none         ph, pw   padding                       0;    pw = ph
 * ih,iw input size         none; iw=ih  oph,opw  output_padding                0;    opw = oph
 * g     groups             1            dh, dw   dilation (1 = not dilated)    1;    dw = dh
 * sf    scaling_factor     2            cb       1: conv bias, 0: none         1
 *                                       bs       elements of `bias`: 1 or oc   oc
 *
 * The letters are benchdnn's, the meanings PyTorch's (benchdnn counts dilation from 0). Keys come
 * in any order, each at most once. `home` names the home case, `home@mbN` the home case with
 * another batch. Printing gives the shortest form, in the table's order; parsing what was printed
 * gives the same problem. */
#ifndef ASSAY_REF_DESCRIPTOR_H
#define ASSAY_REF_DESCRIPTOR_H

#include "ref/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DESCRIPTOR_SIZE 512

/* Parses and validates. STATUS_BAD_INPUT with the offending piece otherwise. */
enum status descriptor_parse(const char *text, struct problem *problem, struct error *error);

/* Writes the shortest form, at most DESCRIPTOR_SIZE bytes with the final 0; returns its length. */
int descriptor_print(const struct problem *problem, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif
#endif
