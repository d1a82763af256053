/* 1,000 seeded random problems, every fill in turn: the oracle's GEMM form agrees with the
 * definition within the bound that fp64 arithmetic has, and cpu-gemm in fp32 raises no false alarm.
 */
#include <omp.h>

#include "harness/arena.h"
#include "harness/comparator.h"
#include "ref/model_direct.h"
#include "ref/model_gemm.h"
#include "ref/oracle.h"
#include "ref/random_problem.h"
#include "tests/model_fixture.h"

#define SEED 20261122
#define COUNT 1000

static struct model_fixture random_fixture(int64_t index)
{
    struct model_fixture f = {.problem = random_problem(SEED, index)};
    const struct fill *fill = &fill_table[(size_t)index % fill_count];
    fixture_allocate(&f);
    fill_params(fill, &f.problem, SEED, f.weight, f.conv_bias, f.bias);
    fill_input(fill, &f.problem, SEED, 0, f.problem.batch, f.x);
    return f;
}

struct agreement {
    const struct model_fixture *f;
    struct oracle *oracle;
    struct bound bound;
    double worst; /* error over bound */
    int64_t seen;
};

static bool agree(void *context, int thread, const struct oracle_strip *s)
{
    (void)thread;
    struct agreement *g = context;
    const struct problem *p = &g->f->problem;
    const struct oracle_arrays *a = s->arrays;
    const struct epilogue *e = oracle_epilogue(g->oracle);
    double *rows = malloc((size_t)(6 * a->pitch) * sizeof *rows);
    assert_non_null(rows);
    const struct bound_pixels pixels = {{rows, rows + a->pitch},
                                        {rows + 2 * a->pitch, rows + 3 * a->pitch}};
    double *typical = rows + 4 * a->pitch, *worst = rows + 5 * a->pitch;
    strip_kernels_get()->bound_pixels(&g->bound, e, a, &pixels);
    for (int64_t c = 0; c < a->channels; c++) {
        strip_kernels_get()->bound_row(&g->bound, e, a, &pixels, c, typical, worst);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++, g->seen++) {
                const int64_t at = s->first_position + i * s->pitch_columns + j;
                const int64_t oh = s->oh + i * s->step_h, ow = s->ow + j * s->step_w;
                const int64_t index = (c * problem_output_h(p) + oh) * problem_output_w(p) + ow;
                const double want = g->f->expected[s->image * problem_output_image(p) + index];
                const double y = a->expected[c * a->pitch + at];
                const double ratio = isnan(want) && isnan(y) ? 0.0 : fabs(y - want) / typical[at];
                g->worst = ratio > g->worst || isnan(ratio) ? ratio : g->worst;
            }
    }
    free(rows);
    return true;
}

static void test_random_problems_oracle_agrees_with_the_definition(void **state)
{
    (void)state;
    omp_set_num_threads(1); /* the visitor keeps one maximum */
    double worst = 0.0;
    for (int64_t i = 0; i < COUNT; i++) {
        struct model_fixture f = random_fixture(i);
        struct agreement g = {.f = &f};
        struct error error;
        for (int64_t n = 0; n < f.problem.batch; n++)
            assert_status(
                model_direct_image(&f.problem, &f.params, f.x + n * problem_input_image(&f.problem),
                                   f.expected + n * problem_output_image(&f.problem), &error),
                STATUS_OK);
        bound_init(&g.bound, CLASS_FP64, &f.problem, 0.0, 0.0);
        g.bound.output_relative = 8.0 * 0x1p-53; /* nothing is rounded to fp32 here */
        g.bound.output_absolute = 0x1p-1070;
        assert_status(oracle_create(&g.oracle, &f.problem, &f.params, &error), STATUS_OK);
        assert_status(oracle_run(g.oracle, f.x, 0, f.problem.batch, agree, &g, &error), STATUS_OK);
        oracle_free(g.oracle);
        assert_int_equal(g.seen, problem_output_count(&f.problem));
        if (!(g.worst <= 1.0))
            fail_msg("random:%d/%lld: error over bound %g", SEED, (long long)i, g.worst);
        worst = g.worst > worst ? g.worst : worst;
        fixture_free(&f);
    }
    print_message("%d problems, largest error over the fp64 bound %.3f\n", COUNT, worst);
}

static void test_random_problems_gemm_fp32_raises_no_alarm(void **state)
{
    (void)state;
    omp_set_num_threads(2);
    double worst = 0.0;
    for (int64_t i = 0; i < COUNT; i++) {
        struct model_fixture f = random_fixture(i);
        struct model_gemm *model;
        struct comparator *c;
        struct comparison_report report;
        struct error error;
        const struct tolerance derived = {.rule = TOLERANCE_DERIVED};
        assert_status(model_gemm_create(&model, &f.problem, &f.params, &error), STATUS_OK);
        assert_status(model_gemm_run(model, f.x, f.y, f.problem.batch, NULL, &error), STATUS_OK);
        model_gemm_free(model);
        assert_status(comparator_create(&c, &f.problem, &f.params, CLASS_FP32, &derived,
                                        tensor_max_magnitude(f.x, problem_input_count(&f.problem)),
                                        arena_poison[0], &error),
                      STATUS_OK);
        assert_status(comparator_images(c, 0, f.problem.batch, f.x, f.y, &error), STATUS_OK);
        comparator_report(c, &report);
        comparator_free(c);
        if (report.verdict != VERDICT_PASS)
            fail_msg("random:%d/%lld: %s, %s", SEED, (long long)i, verdict_name(report.verdict),
                     report.where);
        worst = report.error_over_bound > worst ? report.error_over_bound : worst;
        fixture_free(&f);
    }
    print_message("%d problems, largest error over the fp32 bound %.3f\n", COUNT, worst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_problems_oracle_agrees_with_the_definition),
        cmocka_unit_test(test_random_problems_gemm_fp32_raises_no_alarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
