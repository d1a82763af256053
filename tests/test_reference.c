/* The GEMM forms against the definition, on every kind of problem and every fill. */
#include <omp.h>

#include "ref/model_direct.h"
#include "ref/model_gemm.h"
#include "ref/oracle.h"
#include "tests/model_fixture.h"

static const char *const problems[] = {
    "mb2ic3ih5iw7oc4kh3kw2sh2sw3ph1pw0oph1opw2", /* pairs */
    "mb1ic6ih5oc4kh3sh2oph1dh3g2cb0",            /* dilation, groups, no bias */
    "mb2ic4ih6oc4kh2sh4g4",                      /* depthwise; stride > kernel: empty phases */
    "mb1ic3ih9oc1kh5ph4",                        /* one channel; padding crops */
    "mb1ic2ih4oc257kh4sh2ph1oph1bs1",            /* more channels than a vector; one bias */
    "mb1ic600ih3oc5kh4sh2ph1",                   /* more than one block of the reduction */
    "mb1ic2ih3iw300oc3kh3sh2ph1oph1",            /* a row wider than a strip */
    "mb3ic1ih1oc2kh1sf-3",                       /* a single pixel */
    "mb0ic4ih4oc4kh3",                           /* an empty batch */
    "mb1ic3ih6oc7kh6sh4dh3ph5oph2",              /* stride and dilation not coprime to the kernel */
    "mb1ic4ih5oc6kh16sh8g2",                     /* many phases */
};

static void define_all(struct model_fixture *f)
{
    struct error error;
    for (int64_t n = 0; n < f->problem.batch; n++)
        assert_status(
            model_direct_image(&f->problem, &f->params, f->x + n * problem_input_image(&f->problem),
                               f->expected + n * problem_output_image(&f->problem), &error),
            STATUS_OK);
}

static void each_problem(void (*use)(struct model_fixture *f))
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        for (size_t k = 0; k < fill_count; k++) {
            struct model_fixture f = fixture_make(problems[i], fill_table[k].name, 11 + i);
            define_all(&f);
            use(&f);
            fixture_free(&f);
        }
}

struct agreement {
    const struct model_fixture *f;
    struct oracle *oracle;
    struct bound bound;
    int64_t seen;
};

/* Expected values of both forms lie within the bound that fp64 arithmetic has. */
static bool agree(void *context, int thread, const struct oracle_strip *s)
{
    (void)thread;
    struct agreement *g = context;
    const struct problem *p = &g->f->problem;
    const struct oracle_arrays *a = s->arrays;
    double *rows = malloc((size_t)(6 * a->pitch) * sizeof *rows);
    assert_non_null(rows);
    const struct bound_pixels pixels = {{rows, rows + a->pitch},
                                        {rows + 2 * a->pitch, rows + 3 * a->pitch}};
    double *typical = rows + 4 * a->pitch, *worst = rows + 5 * a->pitch;
    strip_kernels_get()->bound_pixels(&g->bound, oracle_epilogue(g->oracle), a, &pixels);
    for (int64_t c = 0; c < a->channels; c++) {
        strip_kernels_get()->bound_row(&g->bound, oracle_epilogue(g->oracle), a, &pixels, c,
                                       typical, worst);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++, g->seen++) {
                const int64_t at = s->first_position + i * s->pitch_columns + j;
                const int64_t oh = s->oh + i * s->step_h, ow = s->ow + j * s->step_w;
                const double y = a->expected[c * a->pitch + at];
                const double want =
                    g->f->expected[((s->image * p->out_channels + c) * problem_output_h(p) + oh) *
                                       problem_output_w(p) +
                                   ow];
                if (isnan(want) ? !isnan(y) : !(fabs(y - want) <= typical[at]))
                    fail_msg("(%lld, %lld, %lld, %lld): %.17g, expected %.17g within %g",
                             (long long)s->image, (long long)c, (long long)oh, (long long)ow, y,
                             want, typical[at]);
            }
    }
    free(rows);
    return true;
}

static void oracle_agrees(struct model_fixture *f)
{
    struct agreement g = {.f = f};
    omp_set_num_threads(1); /* the visitor counts and fails */
    struct error error;
    bound_init(&g.bound, CLASS_FP64, &f->problem, 0.0, 0.0);
    g.bound.output_relative = 8.0 * 0x1p-53; /* nothing is rounded to fp32 here */
    g.bound.output_absolute = 0x1p-1070;
    assert_status(oracle_create(&g.oracle, &f->problem, &f->params, &error), STATUS_OK);
    assert_status(oracle_run(g.oracle, f->x, 0, f->problem.batch, agree, &g, &error), STATUS_OK);
    assert_int_equal(g.seen, problem_output_count(&f->problem));
    oracle_free(g.oracle);
}

static void test_oracle_agrees_with_the_definition(void **state)
{
    (void)state;
    each_problem(oracle_agrees);
}

static void gemm_runs(struct model_fixture *f)
{
    struct model_gemm *model;
    struct error error;
    assert_status(model_gemm_create(&model, &f->problem, &f->params, &error), STATUS_OK);
    assert_status(model_gemm_run(model, f->x, f->y, f->problem.batch, NULL, &error), STATUS_OK);
    model_gemm_free(model);
}

static void gemm_gives_nan_where_defined(struct model_fixture *f)
{
    gemm_runs(f);
    for (int64_t i = 0; i < problem_output_count(&f->problem); i++) {
        assert_int_equal(isnan(f->y[i]) != 0, isnan(f->expected[i]) != 0);
        if (!isnan(f->y[i]))
            assert_true(f->y[i] >= 0.0f && f->y[i] <= 1.0f);
    }
}

static void test_gemm_fp32_has_nan_where_the_definition_has(void **state)
{
    (void)state;
    each_problem(gemm_gives_nan_where_defined);
}

static void test_gemm_fp32_bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb3ic16ih17oc21kh4sh2ph1oph1", "conditioned", 1);
    const size_t bytes = (size_t)problem_output_count(&f.problem) * sizeof(float);
    float *first = malloc(bytes);
    assert_non_null(first);
    for (int threads = 1; threads <= 5; threads += 2) {
        omp_set_num_threads(threads);
        gemm_runs(&f);
        if (threads == 1)
            memcpy(first, f.y, bytes);
        assert_memory_equal(first, f.y, bytes);
    }
    free(first);
    fixture_free(&f);
}

static void test_vector_kernels_of_every_isa_agree(void **state)
{
    (void)state;
    static const char *const isas[] = {"avx512", "avx2", "sse2", "generic"};
    struct model_fixture f = fixture_make("mb1ic8ih9oc37kh3sh2ph1oph1", "conditioned", 2);
    define_all(&f);
    int tried = 0;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        setenv("ASSAY_ISA", isas[i], 1);
        if (strcmp(strip_kernels_get()->isa, isas[i]) != 0)
            continue; /* not of this machine */
        tried++;
        gemm_runs(&f);
        for (int64_t j = 0; j < problem_output_count(&f.problem); j++)
            assert_within((double)f.y[j], f.expected[j], 2e-6);
        oracle_agrees(&f);
    }
    unsetenv("ASSAY_ISA");
    assert_true(tried >= 1);
    fixture_free(&f);
}

/* 0 * Inf must not come from padding. */
static void test_infinite_weight_does_not_meet_padding(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb1ic1ih2oc2kh3", "conditioned", 1);
    f.weight[0] = INFINITY; /* tap (0, 0) of channel 0: reaches outputs (0..1, 0..1) */
    f.x[0] = f.x[1] = f.x[2] = f.x[3] = -1.0f;
    define_all(&f);
    gemm_gives_nan_where_defined(&f);
    assert_within((double)f.y[15], f.expected[15], 1e-6); /* the far corner is untouched */
    assert_false(isnan(f.y[15]));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_agrees_with_the_definition),
        cmocka_unit_test(test_gemm_fp32_has_nan_where_the_definition_has),
        cmocka_unit_test(test_gemm_fp32_bits_do_not_depend_on_threads),
        cmocka_unit_test(test_vector_kernels_of_every_isa_agree),
        cmocka_unit_test(test_infinite_weight_does_not_meet_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
