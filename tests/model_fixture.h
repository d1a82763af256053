/* A problem with its tensors, filled. */
#ifndef ASSAY_TESTS_MODEL_FIXTURE_H
#define ASSAY_TESTS_MODEL_FIXTURE_H

#include "ref/descriptor.h"
#include "ref/fill.h"
#include "tests/unit.h"

struct model_fixture {
    struct problem problem;
    struct params params;
    float *weight, *conv_bias, *bias, *x;
    float *y;         /* [N, Cout, Ho, Wo] */
    double *expected; /* the same, by the definition; filled by the test */
};

static inline void fixture_allocate(struct model_fixture *f)
{
    const struct problem *p = &f->problem;
    f->weight = malloc((size_t)problem_weight_count(p) * sizeof(float));
    f->conv_bias = malloc((size_t)p->out_channels * sizeof(float));
    f->bias = malloc((size_t)p->bias_count * sizeof(float));
    f->x = malloc((size_t)problem_input_count(p) * sizeof(float) + 1);
    f->y = malloc((size_t)problem_output_count(p) * sizeof(float) + 1);
    f->expected = malloc((size_t)problem_output_count(p) * sizeof(double) + 1);
    assert_true(f->weight && f->conv_bias && f->bias && f->x && f->y && f->expected);
    f->params = (struct params){f->weight, p->has_conv_bias ? f->conv_bias : NULL, f->bias};
}

static inline struct model_fixture fixture_make(const char *descriptor, const char *fill_name,
                                                uint64_t seed)
{
    struct model_fixture f;
    struct error error;
    const struct fill *fill;
    assert_status(descriptor_parse(descriptor, &f.problem, &error), STATUS_OK);
    assert_status(fill_find(fill_name, &fill, &error), STATUS_OK);
    fixture_allocate(&f);
    fill_params(fill, &f.problem, seed, f.weight, f.conv_bias, f.bias);
    fill_input(fill, &f.problem, seed, 0, f.problem.batch, f.x);
    return f;
}

static inline void fixture_free(struct model_fixture *f)
{
    free(f->weight);
    free(f->conv_bias);
    free(f->bias);
    free(f->x);
    free(f->y);
    free(f->expected);
}

#endif
