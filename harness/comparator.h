/* The comparator: every element of an output against the oracle's expectation and the bound of an
 * arithmetic class, image by image, so that no second output tensor is ever held. */
#ifndef ASSAY_HARNESS_COMPARATOR_H
#define ASSAY_HARNESS_COMPARATOR_H

#include "ref/arithmetic_class.h"
#include "ref/problem.h"

enum tolerance_rule {
    TOLERANCE_DERIVED, /* the bound of ref/bound.h */
    TOLERANCE_FIXED,   /* |got - expected| <= atol + rtol |expected|, somebody else's rule */
};

struct tolerance {
    enum tolerance_rule rule;
    double atol, rtol; /* TOLERANCE_FIXED */
};

/* "derived" or "ATOL,RTOL". STATUS_BAD_INPUT otherwise. */
enum status tolerance_parse(const char *text, struct tolerance *tolerance, struct error *error);

enum verdict {
    VERDICT_PASS,     /* every element within the typical bound */
    VERDICT_MARGINAL, /* some beyond the typical, none beyond the worst case */
    VERDICT_FAIL,
    VERDICT_CRASHED,
    VERDICT_TIMEOUT,
    VERDICT_SKIPPED,
};
const char *verdict_name(enum verdict verdict);

struct element {
    int64_t n, c, h, w;
    double expected, got, typical, worst;
};

struct comparison_report {
    enum verdict verdict; /* pass, marginal or fail */
    int64_t compared;
    int64_t above_typical; /* NaN where a number is expected, and the reverse, included */
    int64_t above_worst;
    int64_t unwritten;       /* elements that still hold the poison */
    double max_abs_error;    /* both infinite where a NaN is wrong or an element unwritten */
    double error_over_bound; /* largest error over typical bound */
    bool has_worst;
    struct element worst;            /* the element of error_over_bound, or the first NaN */
    enum arithmetic_class narrowest; /* the narrowest class under which every element would pass */
    bool has_narrowest;              /* false: consistent with none */
    /* Of the first image compared: how far the output would move if a stage were left out, over
     * the bound within which it passes. Up to 1 the data cannot tell. */
    double without_convolution, without_softmax;
    char where[512]; /* where the bad elements lie, in words; empty when none */
};

struct comparator;

/* For outputs of `problem` with `params` (borrowed), as claimed to be of class `cls`. max_x:
 * largest finite |x| of the whole input (tensor_max_magnitude). poison: the bit pattern of an
 * unwritten element. */
enum status comparator_create(struct comparator **comparator, const struct problem *problem,
                              const struct params *params, enum arithmetic_class cls,
                              const struct tolerance *tolerance, double max_x, uint32_t poison,
                              struct error *error);
void comparator_free(struct comparator *comparator);

/* Images [first, first + count): x and got point to image `first`. Any order, each image once. */
enum status comparator_images(struct comparator *comparator, int64_t first, int64_t count,
                              const float *x, const float *got, struct error *error);

/* What has been seen so far. */
void comparator_report(const struct comparator *comparator, struct comparison_report *report);

/* Largest finite magnitude of n floats; 0 for none. */
double tensor_max_magnitude(const float *values, int64_t n);

#endif
