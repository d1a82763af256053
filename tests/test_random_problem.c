/* Seeded random problems: valid, small, the same everywhere, and odd enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ref/descriptor.h"
#include "ref/random_problem.h"

static void test_random_problem_is_valid_and_small(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 3000; i++) {
        struct error error = {0};
        const struct problem p = random_problem(20261122, i);
        if (problem_validate(&p, &error) != STATUS_OK)
            fail_msg("problem %lld: %s", (long long)i, error.message);
        assert_true(problem_flops(&p) <= RANDOM_PROBLEM_FLOPS);
        assert_true(problem_output_count(&p) <= RANDOM_PROBLEM_OUTPUTS);
    }
}

/* What one of them was when it was first drawn, it stays. */
static void test_random_problem_is_a_function_of_seed_and_index(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        int64_t index;
        const char *descriptor;
    } known[] = {
        {1, 0, "mb1ic17ih16iw13oc32kh4sh4ph11dh4sf1"},
        {1, 1, "mb1ic3ih6iw9oc15kh3kw4sh2ph2pw5oph1dw2g3"},
        {1, 5, "mb1ic52ih33iw3oc132kh4ph2g4cb0sf0.1"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[DESCRIPTOR_SIZE];
        const struct problem p = random_problem(known[i].seed, known[i].index);
        const struct problem again = random_problem(known[i].seed, known[i].index);
        descriptor_print(&p, text, sizeof text);
        assert_string_equal(text, known[i].descriptor);
        assert_true(problem_equal(&p, &again));
    }
}

static void test_random_problem_reaches_every_attribute(void **state)
{
    (void)state;
    enum { N = 1000 };
    int groups = 0, dilated = 0, padded = 0, appended = 0, oblong = 0, bare = 0, broadcast = 0;
    int home = 0, batched = 0, uneven = 0, apart = 0, one = 0;
    for (int64_t i = 0; i < N; i++) {
        const struct problem p = random_problem(3, i);
        groups += p.groups > 1;
        dilated += p.dilation_h > 1 || p.dilation_w > 1;
        padded += p.padding_h > 0 || p.padding_w > 0;
        appended += p.output_padding_h > 0 || p.output_padding_w > 0;
        oblong += p.height != p.width;
        bare += !p.has_conv_bias;
        broadcast += p.bias_count == 1 && p.out_channels > 1;
        batched += p.batch > 1;
        uneven += p.stride_h != p.stride_w || p.kernel_h != p.kernel_w;
        apart += p.stride_h > p.kernel_h;
        one += p.out_channels == 1;
        home += p.kernel_h == 4 && p.kernel_w == 4 && p.stride_h == 2 && p.stride_w == 2 &&
                p.padding_h == 1 && p.padding_w == 1;
    }
    const int counts[] = {groups,    dilated, padded, appended, oblong, bare,
                          broadcast, batched, uneven, apart,    one,    home};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] < N / 50)
            fail_msg("attribute %zu: only %d of %d", i, counts[i], N);
}

static void test_random_problem_parse_accepts_one_and_a_range(void **state)
{
    (void)state;
    uint64_t seed;
    int64_t first, last;
    assert_int_equal(random_problem_parse("random:7/12", &seed, &first, &last, NULL), STATUS_OK);
    assert_true(seed == 7 && first == 12 && last == 12);
    assert_int_equal(
        random_problem_parse("random:18446744073709551615/0-99", &seed, &first, &last, NULL),
        STATUS_OK);
    assert_true(seed == UINT64_MAX && first == 0 && last == 99);
    static const char *const bad[] = {"random:",       "random:x/1",
                                      "random:1",      "random:1/",
                                      "random:1/-1",   "random:1/5-3",
                                      "random:1/2x",   "random:-1/2",
                                      "random:1/2-3x", "random:99999999999999999999/1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (random_problem_parse(bad[i], &seed, &first, &last, NULL) != STATUS_BAD_INPUT)
            fail_msg("'%s' is accepted", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_problem_is_valid_and_small),
        cmocka_unit_test(test_random_problem_is_a_function_of_seed_and_index),
        cmocka_unit_test(test_random_problem_reaches_every_attribute),
        cmocka_unit_test(test_random_problem_parse_accepts_one_and_a_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
