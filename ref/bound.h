/* The error bound: how far an honest implementation of a declared arithmetic class may lie from the
 * exact result, for each output element. Nothing here is fitted to any implementation.
 *
 * Notation. u = unit roundoff of the accumulation, K = products in a logit, n = K * products + 1
 * operations on the way to one (conv_bias included), S_c = |conv_bias_c| + sum |W| |x| over the
 * products of logit c, z_c the exact logit, m = max_c z_c, C = Cout, s = |scaling_factor|.
 *
 * S_c is taken from above (ref/conv_transpose_gemm.h), by 0.3 % on ordinary data. Everything below
 * grows with it, so that what is derived from a larger S_c encloses as well.
 *
 * 1. Logit. Rounding both operands by a relative o at most changes each product by
 *    (1 + o)^2 - 1; summing in any order adds gamma_n = n u / (1 - n u) of the magnitudes (Higham,
 *    "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). So
 *
 *        |z^_c - z_c| <= D_c = ((1 + o)^2 (1 + g) - 1) S_c + q + a u_e (|z_c| + |m|)
 *
 *    worst case    g = gamma_n
 *    typical       g = min(gamma_n, lambda sqrt(n) u): for rounding errors that are independent
 *                  and of mean zero, a sum stays within lambda sqrt(n) u with probability
 *                  1 - 2 exp(-lambda^2 / 2) (Higham and Mary, "A new approach to probabilistic
 *                  rounding error analysis", SISC 41(5), 2019, theorem 2.4).
 *                  lambda = sqrt(2 ln(2 N / delta)) for N outputs and delta = 1e-6 puts the chance
 *                  of one false alarm in a whole case below delta. The operands' rounding: the
 *                  relative error of each is b on average, because truncation shrinks, and
 *                  deviates from that by at most o', evenly spread and independent. The mean
 *                  scales the sum, and the deviations walk at random with a variance of at most
 *                  2/3 o'^2 sum |W|^2 |x|^2, so that ((1 + o)^2 - 1) S_c becomes the lesser of
 *                  r S_c, r = (1 + b + o')^2 - 1, and
 *                  2 b (|z_c| + |conv_bias_c|) + lambda o' sqrt(2/3 max|x| max|W| S_c).
 *    q             what operands lose below their format's smallest step after scaling, at most
 *                  2 K quantum max|x| max|W|, and K products that underflow: K 2^-125.
 *    last term     evaluating exp(z - m): subtraction, multiplication by log2(e) and that
 *                  constant's own rounding, in any arrangement; a = 4.
 *
 * 2. Softmax. Errors that move each logit by at most D_j move log p_c by at most
 *    h_c = D_c + E, E = log sum_j p_j exp(D_j) (log-sum-exp is convex, so the move downwards is no
 *    larger), and the log-odds of p_c by at most h'_c = D_c + max_j D_j. Hence
 *
 *        |p^_c - p_c| <= min(p_c (e^h_c - 1), p_c (1 - p_c)(e^h'_c - 1))
 *
 *    The second follows from sigma(t + h) - sigma(t) <= sigma(t)(1 - sigma(t))(e^|h| - 1), which
 *    holds for either sign of h. Then the roundings of exp (e_f, twice), of the sum over C terms
 *    (gamma_C, or lambda sqrt(C) u_e) and of the division: a relative
 *    r_p = 2 e_f + 4 u_e + min(gamma_C, lambda sqrt(C) u_e).
 *
 * 3. Sigmoid. t = scaling_factor (p + bias), in any arrangement, errs by at most
 *    h_t = s (dp + 4 u_e (p + dp + |bias|)) + e_f, exp's own error counted as a move of t. By
 *    the same inequality
 *
 *        |y^ - y| <= y (1 - y)(e^h_t - 1) + 4 u_e y + 2^-125
 *
 *    with the roundings of 1 + e, of the reciprocal and of y itself, and a flush to zero.
 *
 * e^h - 1 <= h + h^2 for h <= 1 keeps the fast path free of exponentials, and 1 - p and 1 - y are
 * not taken below 2^-53 there. Above, the exponential is taken, the result is cut at the range of p
 * and of y, and where p_c or y is close to an end of it the odds count, which no double of p or y
 * holds. For p_c > 1/2, with the largest of the other logits z_o,
 *
 *     1 - p^_c <= e^h'_c sum_{j != c} exp(z_j - z_c) <= e^h'_c (C - 1) exp(z_o - z_c)
 *
 * bounds p_c - p^_c, while p^_c - p_c <= 1 - p_c is less. For t = scaling_factor (p + bias) and
 * h_t < |t|, the sign of t is settled, and 1 - y^ or y^, whichever is the smaller, is at most
 * exp(h_t - |t|), and so is |y^ - y|. An infinite bias makes t infinite without any rounding.
 *
 * Elementary functions: e_f = 2^-22 allows 2 ulp of fp32 (CUDA's expf, ex2.approx, SLEEF's u10);
 * u_e = 2^-24. In class fp64, e_f = 2^-51, u_e = 2^-53, everything counts twice because the oracle
 * has the same arithmetic, and y is rounded to fp32 at the end.
 *
 * A logit whose S_c does not stay below 2^127 may overflow in fp32: nothing is promised for its
 * pixel, and the bound is infinite. A logit that is exactly infinite or NaN by the definition has
 * D_c = 0: IEEE arithmetic leaves no choice there, and where it makes y a NaN only a NaN is right,
 * whatever the bound. */
#ifndef ASSAY_REF_BOUND_H
#define ASSAY_REF_BOUND_H

#include <math.h>

#include "ref/arithmetic_class.h"
#include "ref/problem.h"

enum bound_tier { BOUND_TYPICAL, BOUND_WORST, BOUND_TIERS };

/* Bound of one class for one problem: every factor of the derivation above. */
struct bound {
    enum arithmetic_class cls;
    double lambda;
    double relative[BOUND_TIERS];    /* of S_c: summation, in the worst case the operands' too */
    double operand_magnitude;        /* r, of S_c; like the next two of the typical tier alone */
    double operand_shrink;           /* 2 b, of |z_c| + |conv_bias_c| */
    double operand_walk;             /* lambda o' sqrt(2/3 max|x| max|W|), of sqrt(S_c) */
    double absolute;                 /* q */
    double argument;                 /* a u_e */
    double probability[BOUND_TIERS]; /* r_p */
    double rounding;                 /* 4 u_e */
    double exp_error;                /* e_f */
    double scale;                    /* s */
    double output_relative, output_absolute;
};

/* max_x and max_weight: largest finite magnitude in either tensor (only classes that round their
 * operands look at them). */
void bound_init(struct bound *bound, enum arithmetic_class cls, const struct problem *problem,
                double max_x, double max_weight);

/* D_c: magnitude is S_c, maximum is m, conv_bias is |conv_bias_c|. */
static inline double bound_logit(const struct bound *b, enum bound_tier tier, double magnitude,
                                 double logit, double maximum, double conv_bias)
{
    const double size = fabs(logit) + fabs(maximum);
    double d = b->relative[tier] * magnitude + b->absolute + b->argument * size;
    if (tier == BOUND_TYPICAL) {
        const double all = b->operand_magnitude * magnitude;
        const double walk = b->operand_shrink * (fabs(logit) + conv_bias) +
                            b->operand_walk * __builtin_sqrt(magnitude);
        d += all < walk ? all : walk;
    }
    const double settled = logit - logit == 0.0 ? d : 0.0; /* 0 where the logit is not finite */
    return settled > 0.0 && !(magnitude < 0x1p127) ? INFINITY : settled;
}

/* e^h - 1 from above, for h <= 1; larger h are for bound_output_wide(). */
static inline double bound_expm1(double h)
{
    return h + h * h;
}

/* |y^ - y| where D_c, E and max_j D_j are small (h <= 1 everywhere); *wide is raised where not. */
static inline double bound_output(const struct bound *b, enum bound_tier tier, double logit_error,
                                  double spread, double largest, double p, double y, double bias,
                                  int *wide)
{
    const double odds = 1.0 - p > 0x1p-53 ? 1.0 - p : 0x1p-53;
    const double by_log = p * bound_expm1(logit_error + spread);
    const double by_odds = p * odds * bound_expm1(logit_error + largest);
    double dp = by_log < by_odds ? by_log : by_odds;
    dp += b->probability[tier] * (p + dp);
    const double h = b->scale * (dp + b->rounding * (p + dp + fabs(bias))) + b->exp_error;
    const double other = 1.0 - y > 0x1p-53 ? 1.0 - y : 0x1p-53;
    *wide |= !(largest <= 0.5) | !(h <= 1.0);
    return y * other * bound_expm1(h) + b->output_relative * y + b->output_absolute;
}

/* The same for any size of error; log_p is log p_c, which may be far below what p can hold, and
 * log_others, of p_c > 1/2 alone, that of (C - 1) exp(z_o - z_c). */
double bound_output_wide(const struct bound *bound, enum bound_tier tier, double logit_error,
                         double largest, double log_p, double log_others, double p, double y,
                         double bias);

#endif
