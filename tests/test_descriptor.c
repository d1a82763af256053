/* The descriptor: shortest form, round trips, refusals. */
#include "ref/descriptor.h"
#include "tests/unit.h"

static void test_descriptor_print_gives_the_shortest_form(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"home", "mb128ic64ih64oc128kh4sh2ph1oph1"},
        {"home@mb3", "mb3ic64ih64oc128kh4sh2ph1oph1"},
        {"mb1ic64ih64iw64oc128kh4kw4sh2sw2ph1pw1oph1opw1dh1dw1g1", "mb1ic64ih64oc128kh4sh2ph1oph1"},
        {"kh3oc2ih5ic4", "mb1ic4ih5oc2kh3"},
        {"mb1ic4ih5iw6oc4kh3kw2sh2sw1ph1pw0oph1opw0dh1dw3g2sf0.1cb0bs1",
         "mb1ic4ih5iw6oc4kh3kw2sh2sw1ph1pw0oph1opw0dw3g2bs1cb0sf0.1"},
        {"mb1ic4ih5oc4kh3sf2.0cb1bs4", "mb1ic4ih5oc4kh3"},
        {"mb1ic4ih5oc4kh3sf-1e-3", "mb1ic4ih5oc4kh3sf-0.001"},
        {"mb1ic4ih5oc4kh3sf0.333333343", "mb1ic4ih5oc4kh3sf0.33333334"},
        {"mb1ic4ih5oc4kh3sfinf", "mb1ic4ih5oc4kh3sfinf"},
        {"mb1ic4ih5oc4kh3sfnan", "mb1ic4ih5oc4kh3sfnan"},
        {"mb1ic4ih5oc4kh3sf-0", "mb1ic4ih5oc4kh3sf-0"},
        {"mb1ic4ih5oc4kh3sf0.00e-99", "mb1ic4ih5oc4kh3sf0"},
        {"mb1ic4ih5oc4kh3sf-inf", "mb1ic4ih5oc4kh3sf-inf"},
        {"mb1ic4ih5oc4kh3sf3.4028235e38", "mb1ic4ih5oc4kh3sf3.4028235e+38"},
        {"mb1ic4ih5oc4kh3sf1e-45", "mb1ic4ih5oc4kh3sf1e-45"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct problem p, again;
        struct error error;
        char text[DESCRIPTOR_SIZE];
        assert_status(descriptor_parse(pairs[i][0], &p, &error), STATUS_OK);
        assert_int_equal(descriptor_print(&p, text, sizeof text), (int)strlen(pairs[i][1]));
        assert_string_equal(text, pairs[i][1]);
        assert_status(descriptor_parse(text, &again, &error), STATUS_OK);
        assert_true(problem_equal(&p, &again));
    }
}

static void test_descriptor_print_fits_the_largest_problem(void **state)
{
    (void)state;
    struct problem p = problem_home();
    int64_t *const fields[] = {
        &p.batch,      &p.in_channels, &p.height,           &p.width,
        &p.kernel_h,   &p.kernel_w,    &p.stride_h,         &p.stride_w,
        &p.padding_h,  &p.padding_w,   &p.output_padding_h, &p.output_padding_w,
        &p.dilation_h, &p.dilation_w,  &p.groups,           &p.bias_count};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        *fields[i] = INT64_MAX - (int64_t)i;
    p.scaling_factor = -1.17549435e-38f;
    char text[DESCRIPTOR_SIZE];
    assert_true(descriptor_print(&p, text, sizeof text) < DESCRIPTOR_SIZE);
}

static void test_descriptor_junk_is_refused_with_the_piece(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "empty"},
        {"home@", "home@mbN"},
        {"home@mb", "whole number"},
        {"home@mb1x", "junk"},
        {"homer", "unknown piece"},
        {"mb1ic4ih5oc4kh3zz9", "unknown piece 'zz9'"},
        {"mb1ic4ih5oc4kh3 ", "unknown piece"},
        {"mb1ic4ih5oc4kh3mb2", "stands twice"},
        {"mb1ic4ih5oc4", "lacks key 'kh'"},
        {"mb-1ic4ih5oc4kh3", "whole number"},
        {"mb1.5ic4ih5oc4kh3", "unknown piece"},
        {"mb99999999999999999999ic4ih5oc4kh3", "63 bits"},
        {"mb1ic4ih5oc4kh3sf", "needs a number"},
        {"mb1ic4ih5oc4kh3sf0x10", "unknown piece"},
        {"mb1ic4ih5oc4kh3sf--1", "needs a number"},
        {"mb1ic4ih5oc4kh3sf1e39", "key 'sf' is '1e39': it overflows float32"},
        {"mb1ic4ih5oc4kh3sf-3.5e38cb0", "key 'sf' is '-3.5e38': it overflows float32"},
        {"mb1ic4ih5oc4kh3sf1e-50", "key 'sf' is '1e-50': it underflows float32"},
        {"mb1ic4ih5oc4kh3sf-0.001e-45", "key 'sf' is '-0.001e-45': it underflows float32"},
        {"mb1ic4ih5oc4kh3cb2", "0 or 1"},
        {"mb1ic4ih5oc4kh3bs3", "must have 1, or out_channels"},
        {"MB1ic4ih5oc4kh3", "unknown piece"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem p;
        struct error error = {0};
        assert_status(descriptor_parse(cases[i][0], &p, &error), STATUS_BAD_INPUT);
        if (!strstr(error.message, cases[i][1]))
            fail_msg("'%s': message '%s' lacks '%s'", cases[i][0], error.message, cases[i][1]);
        assert_null(strchr(error.message, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor_print_gives_the_shortest_form),
        cmocka_unit_test(test_descriptor_print_fits_the_largest_problem),
        cmocka_unit_test(test_descriptor_junk_is_refused_with_the_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
