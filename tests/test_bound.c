/* The bound and the comparator: honest roundings pass, every planted fault is caught. */
#include <omp.h>

#include "harness/arena.h"
#include "harness/comparator.h"
#include "ref/bound.h"
#include "ref/model_gemm.h"
#include "tests/model_fixture.h"

static struct comparison_report compared(const struct model_fixture *f, enum arithmetic_class cls,
                                         const struct tolerance *tolerance)
{
    struct comparator *c;
    struct comparison_report report;
    struct error error;
    const struct tolerance derived = {.rule = TOLERANCE_DERIVED};
    assert_status(comparator_create(&c, &f->problem, &f->params, cls,
                                    tolerance ? tolerance : &derived,
                                    tensor_max_magnitude(f->x, problem_input_count(&f->problem)),
                                    arena_poison[0], &error),
                  STATUS_OK);
    assert_status(comparator_images(c, 0, f->problem.batch, f->x, f->y, &error), STATUS_OK);
    comparator_report(c, &report);
    comparator_free(c);
    return report;
}

static void run_model(const struct model_fixture *f, const struct params *params, const float *x)
{
    struct model_gemm *model;
    struct error error;
    assert_status(model_gemm_create(&model, &f->problem, params, &error), STATUS_OK);
    assert_status(model_gemm_run(model, x, f->y, f->problem.batch, NULL, &error), STATUS_OK);
    model_gemm_free(model);
}

static struct model_fixture home_fixture(void)
{
    struct model_fixture f = fixture_make("home@mb1", "conditioned", 1);
    run_model(&f, &f.params, f.x);
    return f;
}

static void test_comparator_honest_output_passes(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    const struct comparison_report r = compared(&f, CLASS_FP32, NULL);
    assert_int_equal(r.verdict, VERDICT_PASS);
    assert_int_equal(r.compared, problem_output_count(&f.problem));
    assert_int_equal(r.above_typical, 0);
    assert_true(r.error_over_bound > 0.01 && r.error_over_bound < 1.0);
    assert_true(r.has_narrowest && r.narrowest == CLASS_FP32);
    fixture_free(&f);
}

/* Each changes one element of an honest output. */
static void one_element(float value, int64_t unwritten)
{
    struct model_fixture f = home_fixture();
    const int64_t at = 1234567; /* channel 74, row 24, column 117 */
    f.y[at] = value;
    const struct comparison_report r = compared(&f, CLASS_FP32, NULL);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_int_equal(r.above_worst, 1);
    assert_int_equal(r.unwritten, unwritten);
    assert_true(isinf(r.error_over_bound) == !isfinite(value));
    assert_true(isinf(r.max_abs_error) == !isfinite(value));
    assert_int_equal(r.worst.c, at / (129 * 129));
    assert_int_equal(r.worst.h, at % (129 * 129) / 129);
    assert_int_equal(r.worst.w, at % 129);
    fixture_free(&f);
}

static void test_comparator_one_nan_fails(void **state)
{
    (void)state;
    one_element(NAN, 0);
}

static void test_comparator_one_infinity_fails(void **state)
{
    (void)state;
    one_element(INFINITY, 0);
    one_element(-INFINITY, 0);
}

static void test_comparator_one_wrong_element_fails(void **state)
{
    (void)state;
    one_element(0.123f, 0);
}

static void test_comparator_one_unwritten_element_fails_and_is_counted(void **state)
{
    (void)state;
    float poison;
    memcpy(&poison, &arena_poison[0], sizeof poison);
    one_element(poison, 1);
}

/* Under a NaN expectation anything but NaN is wrong, and a poison is unwritten all the same. */
static void test_comparator_nan_is_expected_where_the_input_says_so(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb1ic2ih4oc3kh3sh2", "conditioned", 1);
    f.x[0] = NAN;
    run_model(&f, &f.params, f.x);
    assert_true(isnan(f.y[0]));
    assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_PASS);
    memcpy(&f.y[0], &arena_poison[0], sizeof(float));
    struct comparison_report r = compared(&f, CLASS_FP32, NULL);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_int_equal(r.unwritten, 1);
    f.y[0] = 0.5f;
    r = compared(&f, CLASS_FP32, NULL);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_int_equal(r.above_worst, 1);
    fixture_free(&f);
}

/* ---- whole-kernel faults ----------------------------------------------------------------------
 */

static float *copied(const float *from, int64_t n)
{
    float *to = malloc((size_t)n * sizeof *to);
    assert_non_null(to);
    memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

static void expect_caught(const struct model_fixture *f, const char *fault)
{
    const struct comparison_report r = compared(f, CLASS_FP32, NULL);
    if (r.verdict != VERDICT_FAIL)
        fail_msg("%s: verdict %s, error over bound %g", fault, verdict_name(r.verdict),
                 r.error_over_bound);
    assert_true(strlen(r.where) > 0);
}

static void test_bound_catches_missing_convolution(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    float *zeros = calloc((size_t)problem_weight_count(&f.problem), sizeof *zeros);
    const struct params wrong = {zeros, f.conv_bias, f.bias};
    run_model(&f, &wrong, f.x);
    expect_caught(&f, "no convolution");
    free(zeros);
    fixture_free(&f);
}

static void test_bound_catches_flat_softmax(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    for (int64_t i = 0; i < problem_output_count(&f.problem); i++)
        f.y[i] = (float)(1.0 / (1.0 + exp(-2.0 * (1.0 / 128.0 + (double)f.bias[i / (129 * 129)]))));
    expect_caught(&f, "softmax replaced by 1/Cout");
    fixture_free(&f);
}

static void test_bound_catches_flipped_kernel(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    float *flipped = copied(f.weight, problem_weight_count(&f.problem));
    for (int64_t i = 0; i < problem_weight_count(&f.problem); i++)
        flipped[i] = f.weight[i / 16 * 16 + 15 - i % 16];
    const struct params wrong = {flipped, f.conv_bias, f.bias};
    run_model(&f, &wrong, f.x);
    expect_caught(&f, "flipped kernel");
    free(flipped);
    fixture_free(&f);
}

static void test_bound_catches_wrong_output_padding_row(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    for (int64_t c = 0; c < 128; c++)
        memcpy(f.y + (c * 129 + 128) * 129, f.y + (c * 129 + 127) * 129, 129 * sizeof(float));
    const struct comparison_report r = compared(&f, CLASS_FP32, NULL);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_non_null(strstr(r.where, "the last row 128"));
    fixture_free(&f);
}

static void test_bound_catches_dropped_input_channel(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    float *x = copied(f.x, problem_input_count(&f.problem));
    memset(x + 63 * 64 * 64, 0, 64 * 64 * sizeof *x);
    run_model(&f, &f.params, x);
    expect_caught(&f, "last input channel dropped");
    free(x);
    fixture_free(&f);
}

static void test_bound_catches_dropped_conv_bias(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    float *zeros = calloc(128, sizeof *zeros);
    const struct params wrong = {f.weight, zeros, f.bias};
    run_model(&f, &wrong, f.x);
    expect_caught(&f, "conv bias dropped");
    free(zeros);
    fixture_free(&f);
}

/* ---- classes ------------------------------------------------------------------------------------
 */

static float rounded(float v, int bits) /* to `bits` bits behind the point, to nearest even */
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    const uint32_t drop = (uint32_t)(23 - bits), half = 1u << (drop - 1);
    u += half - 1 + ((u >> drop) & 1u);
    u &= ~((1u << drop) - 1u);
    memcpy(&v, &u, sizeof v);
    return v;
}

/* The model on operands rounded to a format, in fp32 otherwise. */
static struct comparison_report rounded_operands(int bits, enum arithmetic_class claimed)
{
    struct model_fixture f = fixture_make("home@mb1", "conditioned", 1);
    float *x = copied(f.x, problem_input_count(&f.problem));
    float *w = copied(f.weight, problem_weight_count(&f.problem));
    for (int64_t i = 0; i < problem_input_count(&f.problem); i++)
        x[i] = rounded(x[i], bits);
    for (int64_t i = 0; i < problem_weight_count(&f.problem); i++)
        w[i] = rounded(w[i], bits);
    const struct params params = {w, f.conv_bias, f.bias};
    run_model(&f, &params, x);
    const struct comparison_report r = compared(&f, claimed, NULL);
    free(x);
    free(w);
    fixture_free(&f);
    return r;
}

static void test_class_tf32_operands_pass_as_tf32_and_fail_as_fp32(void **state)
{
    (void)state;
    struct comparison_report r = rounded_operands(10, CLASS_TF32);
    assert_int_equal(r.verdict, VERDICT_PASS);
    assert_int_equal(r.narrowest, CLASS_TF32);
    r = rounded_operands(10, CLASS_FP32);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_int_equal(r.narrowest, CLASS_TF32);
}

/* Rounding to bf16 (8 bits, to nearest) may err no more than truncating to tf32 (11 bits) does in
 * the same direction everywhere, so the bound tells the two apart on some data only; fp32 it always
 * tells. */
static void test_class_bf16_operands_pass_as_bf16_and_fail_as_fp32(void **state)
{
    (void)state;
    struct comparison_report r = rounded_operands(7, CLASS_BF16);
    assert_int_equal(r.verdict, VERDICT_PASS);
    assert_true(r.narrowest >= CLASS_TF32);
    r = rounded_operands(7, CLASS_FP32);
    assert_int_equal(r.verdict, VERDICT_FAIL);
    assert_true(r.error_over_bound > 10.0);
}

/* ---- rules
 * ---------------------------------------------------------------------------------------- */

static void test_tolerance_fixed_rule_is_applied(void **state)
{
    (void)state;
    struct model_fixture f = home_fixture();
    struct tolerance loose, tight;
    struct error error;
    assert_status(tolerance_parse("1e-2,1e-2", &loose, &error), STATUS_OK);
    assert_status(tolerance_parse("1e-9,0", &tight, &error), STATUS_OK);
    f.y[5] += 1e-3f;
    assert_int_equal(compared(&f, CLASS_FP32, &loose).verdict, VERDICT_PASS);
    assert_int_equal(compared(&f, CLASS_FP32, &tight).verdict, VERDICT_FAIL);
    fixture_free(&f);
}

static void test_tolerance_junk_is_refused(void **state)
{
    (void)state;
    struct tolerance t;
    struct error error;
    static const char *const junk[] = {"",     "1e-2",  "1e-2,", ",1",    "a,b",
                                       "-1,0", "nan,0", "1,inf", "1,1,1", "Derived"};
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
        assert_status(tolerance_parse(junk[i], &t, &error), STATUS_BAD_INPUT);
    assert_status(tolerance_parse("derived", &t, &error), STATUS_OK);
}

/* Each bound grows with the class, and the worst case is never below the typical. */
static void test_bound_grows_from_class_to_class(void **state)
{
    (void)state;
    const struct problem p = problem_home();
    double previous = 0.0;
    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        struct bound b;
        bound_init(&b, (enum arithmetic_class)cls, &p, 1.0, 1.0);
        int wide = 0;
        double y[BOUND_TIERS];
        for (int tier = 0; tier < BOUND_TIERS; tier++) {
            const double d = bound_logit(&b, (enum bound_tier)tier, 10.0, 3.0, 4.0, 0.5);
            y[tier] = bound_output(&b, (enum bound_tier)tier, d, d, d, 0.3, 0.6, 0.1, &wide);
        }
        assert_int_equal(wide, 0);
        assert_true(y[BOUND_TYPICAL] <= y[BOUND_WORST]);
        assert_true(y[BOUND_TYPICAL] > previous);
        previous = y[BOUND_TYPICAL];
    }
}

/* The small-error formula and the one for any size agree where both hold. */
static void test_bound_wide_form_is_no_looser_than_the_small_one(void **state)
{
    (void)state;
    const struct problem p = problem_home();
    struct bound b;
    bound_init(&b, CLASS_FP32, &p, 1.0, 1.0);
    for (double d = 1e-9; d < 0.4; d *= 3.0) {
        int wide = 0;
        const double small = bound_output(&b, BOUND_WORST, d, d, d, 0.2, 0.7, 0.1, &wide);
        const double any = bound_output_wide(&b, BOUND_WORST, d, d, log(0.2), 0.0, 0.2, 0.7, 0.1);
        assert_true(any <= 2.0 * small && small <= 2.0 * any);
    }
    assert_true(isinf(bound_output_wide(&b, BOUND_WORST, 1.0, INFINITY, 0.0, 0.0, 1.0, 0.5, 0.0)));
}

#define LOGITS 5

static double uniform(void)
{
    return (rand() + 0.5) / (RAND_MAX + 1.0);
}

static double output_of(const double *z, double scale, double bias, double *p)
{
    double sum = 0.0;
    for (int c = 0; c < LOGITS; c++)
        sum += exp(z[c] - z[0]);
    *p = 1.0 / sum;
    return 1.0 / (1.0 + exp(-scale * (*p + bias)));
}

/* Logits that err by all they may, this one upwards and the others downwards or the other way
 * round, stay within what is derived for them, however large. */
static void test_bound_wide_form_holds_for_logits_moved_by_all_they_may(void **state)
{
    (void)state;
    struct problem p = problem_home();
    srand(1);
    for (int i = 0; i < 200000; i++) {
        /* sums of exponentials stay finite */
        double z[LOGITS], moved[2][LOGITS], d[LOGITS], largest = 0.0, rest = -INFINITY, prob, other;
        const double spread = exp(5.8 * uniform()), error = exp(8.0 * uniform() - 4.0);
        p.scaling_factor = (float)(exp(20.0 * uniform() - 4.0) * (i % 2 ? 1.0 : -1.0));
        struct bound b;
        bound_init(&b, CLASS_FP32, &p, 1.0, 1.0);
        for (int c = 0; c < LOGITS; c++) {
            z[c] = spread * (2.0 * uniform() - 1.0);
            d[c] = error * uniform();
            largest = d[c] > largest ? d[c] : largest;
            if (c > 0 && z[c] > rest)
                rest = z[c];
        }
        const double bias = (i % 3 ? 1.0 : 1e6) * (uniform() - 0.5);
        for (int c = 0; c < LOGITS; c++) {
            moved[0][c] = z[c] + (c ? -d[c] : d[c]);
            moved[1][c] = z[c] - (c ? -d[c] : d[c]);
        }
        const double y = output_of(z, p.scaling_factor, bias, &prob);
        double sum = 0.0;
        for (int c = 0; c < LOGITS; c++)
            sum += exp(z[c] - z[0]);
        const double bound = bound_output_wide(&b, BOUND_WORST, d[0], largest, -log(sum),
                                               log(LOGITS - 1.0) + rest - z[0], prob, y, bias);
        for (int k = 0; k < 2; k++) {
            const double got = output_of(moved[k], p.scaling_factor, bias, &other);
            if (!(fabs(got - y) <= bound))
                fail_msg("y %g, moved to %g, allowed %g", y, got, bound);
        }
    }
}

/* What is derived where an error of more than e is possible: less than the range, where the odds
 * are far away. */
static void test_bound_wide_form_is_narrow_where_nothing_can_change(void **state)
{
    (void)state;
    struct problem p = problem_home();
    struct bound b;
    p.scaling_factor = 1e30f;
    bound_init(&b, CLASS_FP32, &p, 1.0, 1.0);
    assert_true(bound_output_wide(&b, BOUND_WORST, 1e-6, 1e-6, -1.0, 0.0, 0.3, 1.0, 0.1) < 1e-6);
    p.scaling_factor = INFINITY;
    bound_init(&b, CLASS_FP32, &p, 1.0, 1.0);
    assert_true(bound_output_wide(&b, BOUND_WORST, 1e-6, 1e-6, -1.0, 0.0, 0.3, 1.0, 0.1) < 1e-6);
    p.scaling_factor = 2.0f;
    bound_init(&b, CLASS_FP32, &p, 1.0, 1.0);
    for (int i = 0; i < 2; i++) {
        const double bias = i ? INFINITY : 1e30;
        assert_true(bound_output_wide(&b, BOUND_WORST, 1e-6, 1e-6, -1.0, 0.0, 0.3, 1.0, bias) <
                    1e-6);
        assert_true(bound_output_wide(&b, BOUND_WORST, 1e-6, 1e-6, -1.0, 0.0, 0.3, 0.0, -bias) <
                    1e-6);
    }
    /* p is 1 but for e^-500, and logits err by 20 */
    assert_true(bound_output_wide(&b, BOUND_WORST, 20.0, 20.0, 0.0, -500.0, 1.0, 0.8, 0.0) < 1e-5);
    assert_true(bound_output_wide(&b, BOUND_WORST, 20.0, 20.0, 0.0, -5.0, 1.0, 0.8, 0.0) > 0.1);
}

static void fill_with(struct model_fixture *f, float value)
{
    for (int64_t i = 0; i < problem_output_count(&f->problem); i++)
        f->y[i] = value;
}

/* Where the definition gives a NaN only a NaN is right, also beside an infinite conv_bias. */
static void test_comparator_infinite_conv_bias_leaves_no_choice(void **state)
{
    (void)state;
    static const float values[] = {0.0f, 0.25f, 1.0f, INFINITY};
    struct model_fixture f = fixture_make("mb1ic3ih4oc5kh3sh2", "conditioned", 1);
    f.conv_bias[1] = INFINITY;
    run_model(&f, &f.params, f.x);
    assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_PASS);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        fill_with(&f, values[i]);
        assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_FAIL);
    }
    fill_with(&f, NAN);
    assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_PASS);
    fixture_free(&f);
}

static void test_bound_catches_a_constant_where_the_sigmoid_is_saturated(void **state)
{
    (void)state;
    static const struct {
        float bias, scale;
    } rows[] = {
        {INFINITY, 2.0f}, {1e30f, 2.0f}, {0.5f, 1e30f}, {0.5f, INFINITY}, {-INFINITY, 2.0f}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_fixture f = fixture_make("mb1ic3ih4oc5kh3sh2", "conditioned", 1);
        f.problem.scaling_factor = rows[i].scale;
        f.bias[2] = rows[i].bias;
        run_model(&f, &f.params, f.x);
        assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_PASS);
        const int64_t plane = problem_output_h(&f.problem) * problem_output_w(&f.problem);
        for (int64_t k = 0; k < plane; k++)
            f.y[2 * plane + k] = 0.25f;
        assert_int_equal(compared(&f, CLASS_FP32, NULL).verdict, VERDICT_FAIL);
        fixture_free(&f);
    }
}

/* 0.3 p instead of p, where logits err by far more than 1 but lie further apart. */
static void test_bound_catches_a_wrong_softmax_of_large_logits(void **state)
{
    (void)state;
    static const enum arithmetic_class classes[] = {CLASS_FP32, CLASS_TF32, CLASS_BF16};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct model_fixture f = fixture_make("mb2ic8ih9oc16kh4sh2ph1oph1", "extreme", 1);
        const struct problem *p = &f.problem;
        const int64_t plane = problem_output_h(p) * problem_output_w(p);
        run_model(&f, &f.params, f.x);
        assert_int_equal(compared(&f, classes[i], NULL).verdict, VERDICT_PASS);
        for (int64_t k = 0; k < problem_output_count(p); k++) {
            const double bias = (double)f.bias[k / plane % p->out_channels];
            const double s = (double)p->scaling_factor, y = (double)f.y[k];
            const double q = 0.3 * (log(y / (1.0 - y)) / s - bias);
            f.y[k] = (float)(1.0 / (1.0 + exp(-s * (q + bias))));
        }
        assert_int_equal(compared(&f, classes[i], NULL).verdict, VERDICT_FAIL);
        fixture_free(&f);
    }
}

int main(void)
{
    omp_set_num_threads(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comparator_honest_output_passes),
        cmocka_unit_test(test_comparator_one_nan_fails),
        cmocka_unit_test(test_comparator_one_infinity_fails),
        cmocka_unit_test(test_comparator_one_wrong_element_fails),
        cmocka_unit_test(test_comparator_one_unwritten_element_fails_and_is_counted),
        cmocka_unit_test(test_comparator_nan_is_expected_where_the_input_says_so),
        cmocka_unit_test(test_bound_catches_missing_convolution),
        cmocka_unit_test(test_bound_catches_flat_softmax),
        cmocka_unit_test(test_bound_catches_flipped_kernel),
        cmocka_unit_test(test_bound_catches_wrong_output_padding_row),
        cmocka_unit_test(test_bound_catches_dropped_input_channel),
        cmocka_unit_test(test_bound_catches_dropped_conv_bias),
        cmocka_unit_test(test_class_tf32_operands_pass_as_tf32_and_fail_as_fp32),
        cmocka_unit_test(test_class_bf16_operands_pass_as_bf16_and_fail_as_fp32),
        cmocka_unit_test(test_tolerance_fixed_rule_is_applied),
        cmocka_unit_test(test_tolerance_junk_is_refused),
        cmocka_unit_test(test_bound_grows_from_class_to_class),
        cmocka_unit_test(test_bound_wide_form_is_no_looser_than_the_small_one),
        cmocka_unit_test(test_bound_wide_form_holds_for_logits_moved_by_all_they_may),
        cmocka_unit_test(test_bound_wide_form_is_narrow_where_nothing_can_change),
        cmocka_unit_test(test_comparator_infinite_conv_bias_leaves_no_choice),
        cmocka_unit_test(test_bound_catches_a_constant_where_the_sigmoid_is_saturated),
        cmocka_unit_test(test_bound_catches_a_wrong_softmax_of_large_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
