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
        const double any = bound_output_wide(&b, BOUND_WORST, d, d, log(0.2), 0.2, 0.7, 0.1);
        assert_true(any <= 2.0 * small && small <= 2.0 * any);
    }
    assert_true(isinf(bound_output_wide(&b, BOUND_WORST, 1.0, INFINITY, 0.0, 1.0, 0.5, 0.0)));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
