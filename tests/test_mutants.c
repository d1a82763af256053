/* The wrong kernels of ref/mutants.h: each is killed on data that can show it, none of them is the
 * reference by mistake, and a wrong output is told by its name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/arena.h"
#include "harness/attribution.h"
#include "harness/comparator.h"
#include "ref/descriptor.h"
#include "ref/fill.h"
#include "ref/model_direct.h"
#include "ref/mutants.h"

#define SEED 7

/* A filled problem with an engine. */
struct bench {
    struct problem problem;
    struct params params;
    float *x, *weight, *conv_bias, *bias, *y;
    struct mutant_engine *engine;
};

static void bench_init(struct bench *b, const char *descriptor, const char *fill_name)
{
    struct error error = {0};
    const struct fill *fill;
    assert_int_equal(descriptor_parse(descriptor, &b->problem, &error), STATUS_OK);
    assert_int_equal(fill_find(fill_name, &fill, &error), STATUS_OK);
    const struct problem *p = &b->problem;
    b->x = malloc((size_t)problem_input_count(p) * sizeof(float));
    b->weight = malloc((size_t)problem_weight_count(p) * sizeof(float));
    b->conv_bias = malloc((size_t)p->out_channels * sizeof(float));
    b->bias = malloc((size_t)p->bias_count * sizeof(float));
    b->y = malloc((size_t)problem_output_count(p) * sizeof(float));
    fill_params(fill, p, SEED, b->weight, b->conv_bias, b->bias);
    fill_input(fill, p, SEED, 0, p->batch, b->x);
    b->params = (struct params){b->weight, p->has_conv_bias ? b->conv_bias : NULL, b->bias};
    assert_int_equal(mutant_engine_create(&b->engine, p, &b->params, &error), STATUS_OK);
}

static void bench_release(struct bench *b)
{
    mutant_engine_free(b->engine);
    free(b->x);
    free(b->weight);
    free(b->conv_bias);
    free(b->bias);
    free(b->y);
}

static const struct mutant *find(const char *name)
{
    for (size_t i = 0; i < mutant_count; i++)
        if (strcmp(mutant_table[i].name, name) == 0)
            return &mutant_table[i];
    fail_msg("no mutant '%s'", name);
    return NULL;
}

/* The whole batch of a mutant (NULL: of none) under the derived bound of fp32. */
static enum verdict judge(struct bench *b, const struct mutant *mutant, bool *same)
{
    static const struct mutant none;
    const struct tolerance derived = {.rule = TOLERANCE_DERIVED};
    const struct problem *p = &b->problem;
    const int64_t in = problem_input_image(p), out = problem_output_image(p);
    struct comparator *comparator;
    struct comparison_report report;
    struct error error = {0};
    *same = true;
    assert_int_equal(comparator_create(&comparator, p, &b->params, CLASS_FP32, &derived,
                                       tensor_max_magnitude(b->x, problem_input_count(p)),
                                       arena_poison[0], &error),
                     STATUS_OK);
    for (int64_t n = 0; n < p->batch; n++) {
        float *y = b->y + n * out;
        assert_int_equal(mutant_run(b->engine, mutant ? mutant : &none, b->x, n, y, &error),
                         STATUS_OK);
        *same &= memcmp(y, mutant_truth(b->engine), (size_t)out * sizeof *y) == 0;
        assert_int_equal(comparator_images(comparator, n, 1, b->x + n * in, y, &error), STATUS_OK);
    }
    comparator_report(comparator, &report);
    comparator_free(comparator);
    return report.verdict;
}

static void test_mutant_names_are_unique(void **state)
{
    (void)state;
    assert_true(mutant_count >= 24);
    for (size_t i = 0; i < mutant_count; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(mutant_table[i].name, mutant_table[k].name);
}

/* The general form without a fault is the definition. */
static void test_mutant_without_fault_is_the_reference(void **state)
{
    (void)state;
    static const char *const problems[] = {"mb2ic8ih9oc48kh4sh2ph1oph1",
                                           "mb2ic6ih5iw7oc9kh3kw2sh2ph1pw0oph1g3bs1",
                                           "mb1ic3ih4oc5kh2sh3oph2cb0sf-3"};
    for (size_t i = 0; i < 3; i++) {
        struct bench b;
        bool same;
        bench_init(&b, problems[i], "conditioned");
        assert_int_equal(judge(&b, NULL, &same), VERDICT_PASS);
        assert_true(same);
        const int64_t n = problem_output_image(&b.problem);
        double *direct = malloc((size_t)n * sizeof *direct);
        assert_int_equal(model_direct_image(&b.problem, &b.params, b.x, direct, NULL), STATUS_OK);
        for (int64_t k = 0; k < n; k++)
            assert_true(fabs((double)b.y[k] - direct[k]) <= 0x1p-24);
        free(direct);
        bench_release(&b);
    }
}

static void test_mutants_are_killed_on_data_that_can_tell(void **state)
{
    (void)state;
    /* What this problem cannot show. */
    static const char *const out_of_reach[] = {"first-group-for-all", "maximum-kept",
                                               "index-in-float", "index-in-int32"};
    struct bench b;
    bench_init(&b, "mb3ic8ih9oc48kh4sh2ph1oph1", "conditioned");
    for (size_t i = 0; i < mutant_count; i++) {
        const struct mutant *m = &mutant_table[i];
        bool reachable = true, same;
        for (size_t k = 0; k < sizeof out_of_reach / sizeof *out_of_reach; k++)
            reachable &= strcmp(m->name, out_of_reach[k]) != 0;
        const enum verdict verdict = judge(&b, m, &same);
        if (verdict != (reachable ? VERDICT_FAIL : VERDICT_PASS) || same == reachable)
            fail_msg("%s: %s%s", m->name, verdict_name(verdict), same ? ", same" : "");
    }
    bench_release(&b);
}

static void test_mutants_out_of_reach_are_killed_where_they_show(void **state)
{
    (void)state;
    static const struct {
        const char *mutant, *problem, *fill;
    } rows[] = {
        {"first-group-for-all", "mb1ic6ih5oc9kh3sh2g3", "conditioned"},
        {"maximum-kept", "mb1ic8ih5oc9kh3sh2", "extreme"},
        {"index-in-float", "mb33ic64ih90oc2kh1", "conditioned"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bench b;
        bool same;
        bench_init(&b, rows[i].problem, rows[i].fill);
        const enum verdict verdict = judge(&b, find(rows[i].mutant), &same);
        if (verdict != VERDICT_FAIL)
            fail_msg("%s: %s", rows[i].mutant, verdict_name(verdict));
        bench_release(&b);
    }
}

static void test_mutant_padded_softmax_shows_only_with_padding(void **state)
{
    (void)state;
    struct bench b;
    bool same;
    bench_init(&b, "mb1ic4ih5oc32kh2sh2", "conditioned");
    judge(&b, find("softmax-padded"), &same);
    assert_true(same);
    bench_release(&b);
    bench_init(&b, "mb1ic4ih5oc33kh2sh2", "conditioned");
    assert_int_equal(judge(&b, find("softmax-padded"), &same), VERDICT_FAIL);
    bench_release(&b);
}

/* A wrong output is told by the mutant that made it. */
static void test_attribution_names_each_fault(void **state)
{
    (void)state;
    struct bench b;
    struct error error = {0};
    bench_init(&b, "mb3ic8ih9iw11oc48kh4sh2ph1oph1", "conditioned");
    int named = 0;
    for (size_t i = 0; i < mutant_count; i++) {
        struct attribution a;
        bool same;
        judge(&b, &mutant_table[i], &same);
        const int64_t out = problem_output_image(&b.problem);
        if (same)
            continue;
        /* The second image, for images that are mixed up look alike elsewhere; or the last. */
        int64_t n = 0;
        for (bool right = true; right;) {
            n++;
            assert_true(n < b.problem.batch);
            assert_int_equal(mutant_run(b.engine, &mutant_table[i], b.x, n, b.y + n * out, &error),
                             STATUS_OK);
            right = memcmp(b.y + n * out, mutant_truth(b.engine), (size_t)out * sizeof(float)) == 0;
        }
        assert_int_equal(attribute(&b.problem, &b.params, b.x, n, b.y + n * out, 60.0, &a, &error),
                         STATUS_OK);
        if (a.mutant != &mutant_table[i])
            fail_msg("%s is taken for %s", mutant_table[i].name,
                     a.mutant ? a.mutant->name : "nothing");
        assert_true(a.explained > 0.999999);
        named++;
    }
    assert_true(named >= 40);
    bench_release(&b);
}

static void test_attribution_of_noise_names_nothing(void **state)
{
    (void)state;
    struct bench b;
    struct attribution a;
    struct error error = {0};
    bool same;
    bench_init(&b, "mb1ic8ih9oc48kh4sh2ph1oph1", "conditioned");
    judge(&b, NULL, &same);
    for (int64_t i = 0; i < problem_output_count(&b.problem); i++)
        b.y[i] += (float)((i * 2654435761u >> 16) % 1000) * 1e-4f - 0.05f;
    assert_int_equal(attribute(&b.problem, &b.params, b.x, 0, b.y, 60.0, &a, &error), STATUS_OK);
    assert_null(a.mutant);
    bench_release(&b);
}

/* The comparator's figure for data that cannot tell. */
static void test_sensitivity_is_low_on_kernelbench_under_a_percent(void **state)
{
    (void)state;
    struct bench b;
    bool same;
    struct error error = {0};
    bench_init(&b, "mb1ic64ih8oc128kh4sh2ph1oph1", "kernelbench");
    judge(&b, NULL, &same);
    for (int rule = 0; rule < 2; rule++) {
        const struct tolerance t = {
            .rule = rule ? TOLERANCE_FIXED : TOLERANCE_DERIVED, .atol = 1e-2, .rtol = 1e-2};
        struct comparator *comparator;
        struct comparison_report report;
        assert_int_equal(comparator_create(&comparator, &b.problem, &b.params, CLASS_FP32, &t, 1.0,
                                           arena_poison[0], &error),
                         STATUS_OK);
        assert_int_equal(comparator_images(comparator, 0, 1, b.x, b.y, &error), STATUS_OK);
        comparator_report(comparator, &report);
        comparator_free(comparator);
        assert_int_equal(report.verdict, VERDICT_PASS);
        assert_true(rule ? report.without_convolution < 1.0 : report.without_convolution > 100.0);
        assert_true(rule ? report.without_softmax < 1.0 : report.without_softmax > 100.0);
    }
    bench_release(&b);
}

/* The same data tell less the more a class allows, by as much as it allows more. */
static void test_sensitivity_shrinks_from_class_to_class(void **state)
{
    (void)state;
    static const enum arithmetic_class classes[] = {CLASS_FP32, CLASS_TF32, CLASS_BF16};
    const struct tolerance derived = {.rule = TOLERANCE_DERIVED};
    struct bench b;
    bool same;
    struct error error = {0};
    double before[2] = {1e6, 1e6};
    bench_init(&b, "mb2ic64ih8oc32kh4sh2ph1oph1", "kernelbench");
    judge(&b, NULL, &same);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct comparator *comparator;
        struct comparison_report report;
        assert_int_equal(comparator_create(&comparator, &b.problem, &b.params, classes[i], &derived,
                                           1.0, arena_poison[0], &error),
                         STATUS_OK);
        assert_int_equal(comparator_images(comparator, 0, 2, b.x, b.y, &error), STATUS_OK);
        comparator_report(comparator, &report);
        comparator_free(comparator);
        const double now[2] = {report.without_convolution, report.without_softmax};
        for (int k = 0; k < 2; k++) {
            assert_true(now[k] > 0.0 && now[k] < 0.5 * before[k]);
            before[k] = now[k];
        }
    }
    bench_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutant_names_are_unique),
        cmocka_unit_test(test_mutant_without_fault_is_the_reference),
        cmocka_unit_test(test_mutants_are_killed_on_data_that_can_tell),
        cmocka_unit_test(test_mutants_out_of_reach_are_killed_where_they_show),
        cmocka_unit_test(test_mutant_padded_softmax_shows_only_with_padding),
        cmocka_unit_test(test_attribution_names_each_fault),
        cmocka_unit_test(test_attribution_of_noise_names_nothing),
        cmocka_unit_test(test_sensitivity_is_low_on_kernelbench_under_a_percent),
        cmocka_unit_test(test_sensitivity_shrinks_from_class_to_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
