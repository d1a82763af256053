/* The fills: same bits whatever the slicing and threads, and data that can tell. */
#include <omp.h>

#include "ref/model_direct.h"
#include "tests/model_fixture.h"

#define DESCRIPTOR "mb5ic6ih7iw5oc8kh4sh2ph1oph1"

static void test_fill_slices_equal_the_whole(void **state)
{
    (void)state;
    for (size_t k = 0; k < fill_count; k++) {
        struct model_fixture f = fixture_make(DESCRIPTOR, fill_table[k].name, 7);
        const int64_t image = problem_input_image(&f.problem);
        float *part = malloc((size_t)(2 * image) * sizeof *part);
        assert_non_null(part);
        fill_input(&fill_table[k], &f.problem, 7, 2, 2, part);
        assert_memory_equal(part, f.x + 2 * image, (size_t)(2 * image) * sizeof *part);
        free(part);
        fixture_free(&f);
    }
}

static void test_fill_threads_give_the_same_bits(void **state)
{
    (void)state;
    for (size_t k = 0; k < fill_count; k++) {
        omp_set_num_threads(1);
        struct model_fixture one = fixture_make(DESCRIPTOR, fill_table[k].name, 3);
        omp_set_num_threads(3);
        struct model_fixture three = fixture_make(DESCRIPTOR, fill_table[k].name, 3);
        assert_memory_equal(one.x, three.x,
                            (size_t)problem_input_count(&one.problem) * sizeof(float));
        assert_memory_equal(one.weight, three.weight,
                            (size_t)problem_weight_count(&one.problem) * sizeof(float));
        fixture_free(&one);
        fixture_free(&three);
    }
}

/* Bits that must never change: golden files and records name fill and seed only. */
static void test_fill_known_values_stay(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make(DESCRIPTOR, "kernelbench", 1);
    assert_within((double)f.x[0], (double)0.072203517f, 0.0);
    assert_within((double)f.x[1049], (double)0.982398748f, 0.0);
    fixture_free(&f);
}

static void test_fill_seeds_differ(void **state)
{
    (void)state;
    struct model_fixture a = fixture_make(DESCRIPTOR, "conditioned", 1);
    struct model_fixture b = fixture_make(DESCRIPTOR, "conditioned", 2);
    int64_t same = 0;
    for (int64_t i = 0; i < problem_input_count(&a.problem); i++)
        same += a.x[i] == b.x[i];
    assert_true(same < 10);
    fixture_free(&a);
    fixture_free(&b);
}

/* Standard deviation of the home case's logits on a few rows. */
static void test_fill_conditioned_spreads_logits_over_units(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("home@mb1", "conditioned", 1);
    double sum = 0, squares = 0;
    int64_t n = 0;
    for (int64_t c = 0; c < 128; c += 9)
        for (int64_t w = 0; w < 129; w += 4, n++) {
            const double z = conv_transpose_pixel(&f.problem, f.x, f.weight, c, 64, w);
            sum += z;
            squares += z * z;
        }
    const double deviation = sqrt(squares / (double)n - sum * sum / ((double)n * (double)n));
    assert_within(deviation, 3.0, 0.5);
    fixture_free(&f);
}

static void test_fill_impulse_has_a_single_one_in_each_image(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make(DESCRIPTOR, "impulse", 5);
    const int64_t image = problem_input_image(&f.problem);
    for (int64_t n = 0; n < f.problem.batch; n++) {
        int64_t ones = 0, others = 0;
        for (int64_t i = 0; i < image; i++) {
            ones += f.x[n * image + i] == 1.0f;
            others += f.x[n * image + i] != 1.0f && f.x[n * image + i] != 0.0f;
        }
        assert_int_equal(ones, 1);
        assert_int_equal(others, 0);
    }
    fixture_free(&f);
}

static void test_fill_special_holds_what_it_promises(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb64ic3ih31oc4kh3", "special", 1);
    int64_t nans = 0, infinities = 0, minus_zeros = 0, subnormals = 0;
    for (int64_t i = 0; i < problem_input_count(&f.problem); i++) {
        nans += isnan(f.x[i]);
        infinities += isinf(f.x[i]);
        minus_zeros += f.x[i] == 0.0f && signbit(f.x[i]);
        subnormals += fpclassify(f.x[i]) == FP_SUBNORMAL;
    }
    assert_true(nans > 0 && infinities > 0 && minus_zeros > 0 && subnormals > 0);
    assert_true(nans + infinities < problem_input_count(&f.problem) / 50);
    fixture_free(&f);
}

static void test_fill_unknown_name_lists_the_known(void **state)
{
    (void)state;
    const struct fill *fill;
    struct error error;
    assert_status(fill_find("gaussian", &fill, &error), STATUS_BAD_INPUT);
    for (size_t i = 0; i < fill_count; i++)
        assert_non_null(strstr(error.message, fill_table[i].name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill_slices_equal_the_whole),
        cmocka_unit_test(test_fill_threads_give_the_same_bits),
        cmocka_unit_test(test_fill_known_values_stay),
        cmocka_unit_test(test_fill_seeds_differ),
        cmocka_unit_test(test_fill_conditioned_spreads_logits_over_units),
        cmocka_unit_test(test_fill_impulse_has_a_single_one_in_each_image),
        cmocka_unit_test(test_fill_special_holds_what_it_promises),
        cmocka_unit_test(test_fill_unknown_name_lists_the_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
