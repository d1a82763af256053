/* The problem: what is accepted, sizes, operation counts. */
#include "ref/descriptor.h"
#include "tests/unit.h"

static struct problem parsed(const char *descriptor)
{
    struct problem p;
    struct error error;
    assert_status(descriptor_parse(descriptor, &p, &error), STATUS_OK);
    return p;
}

static void refused(const char *descriptor, const char *reason)
{
    struct problem p;
    struct error error = {0};
    assert_status(descriptor_parse(descriptor, &p, &error), STATUS_BAD_INPUT);
    if (!strstr(error.message, reason))
        fail_msg("'%s' was refused with '%s', expected '%s'", descriptor, error.message, reason);
}

static void test_problem_home_has_its_published_sizes(void **state)
{
    (void)state;
    const struct problem p = problem_home();
    assert_int_equal(problem_output_h(&p), 129);
    assert_int_equal(problem_output_w(&p), 129);
    assert_int_equal(problem_output_count(&p), 272646144);
    assert_int_equal(problem_input_count(&p), 33554432);
    assert_int_equal(problem_weight_count(&p), 131072);
    assert_int_equal(problem_reduction_length(&p), 256);
}

/* Counts the products of the definition one by one. */
static double flops_by_enumeration(const struct problem *p)
{
    double products = 0;
    for (int64_t ih = 0; ih < p->height; ih++)
        for (int64_t kh = 0; kh < p->kernel_h; kh++)
            for (int64_t iw = 0; iw < p->width; iw++)
                for (int64_t kw = 0; kw < p->kernel_w; kw++) {
                    const int64_t oh = ih * p->stride_h - p->padding_h + kh * p->dilation_h;
                    const int64_t ow = iw * p->stride_w - p->padding_w + kw * p->dilation_w;
                    products +=
                        oh >= 0 && oh < problem_output_h(p) && ow >= 0 && ow < problem_output_w(p);
                }
    return 2.0 * products * (double)p->batch * (double)p->in_channels *
           (double)(p->out_channels / p->groups);
}

/* Pixels of x and taps of W that some output depends on, one by one. */
static double bytes_by_enumeration(const struct problem *p)
{
    const int64_t in_axis[2] = {p->height, p->width}, taps[2] = {p->kernel_h, p->kernel_w};
    const int64_t stride[2] = {p->stride_h, p->stride_w},
                  dilation[2] = {p->dilation_h, p->dilation_w};
    const int64_t padding[2] = {p->padding_h, p->padding_w};
    const int64_t out[2] = {problem_output_h(p), problem_output_w(p)};
    double inputs = 1.0, used_taps = 1.0;
    for (int axis = 0; axis < 2; axis++) {
        bool input[64] = {false}, tap[64] = {false};
        for (int64_t i = 0; i < in_axis[axis]; i++)
            for (int64_t k = 0; k < taps[axis]; k++) {
                const int64_t o = i * stride[axis] - padding[axis] + k * dilation[axis];
                if (o >= 0 && o < out[axis])
                    input[i] = tap[k] = true;
            }
        int count[2] = {0, 0};
        for (int i = 0; i < 64; i++) {
            count[0] += input[i];
            count[1] += tap[i];
        }
        inputs *= count[0];
        used_taps *= count[1];
    }
    return 4.0 * ((double)(p->batch * p->in_channels) * inputs +
                  (double)(p->in_channels * p->out_channels / p->groups) * used_taps +
                  (double)(problem_output_count(p) + p->bias_count) +
                  (double)(p->has_conv_bias ? p->out_channels : 0));
}

static void test_problem_flops_and_bytes_equal_enumeration(void **state)
{
    (void)state;
    const char *const problems[] = {"mb2ic3ih5iw7oc4kh3kw2sh2sw3ph1pw0oph1opw2",
                                    "mb1ic4ih6oc6kh5sh3ph4dh2g2",
                                    "mb1ic2ih9oc2kh3sh1ph2",
                                    "mb3ic1ih1oc1kh1",
                                    "mb1ic2ih4oc2kh2sh5oph3",
                                    "mb1ic64ih64oc128kh4sh2ph1oph1",
                                    "mb2ic3ih64oc2kh1ph30",
                                    "mb1ic2ih20oc3kh3sh2ph12dh7cb0",
                                    "mb1ic2ih7iw9oc3kh2sh3ph2pw1dh5dw4oph2bs1"};
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        const struct problem p = parsed(problems[i]);
        assert_within(problem_flops(&p), flops_by_enumeration(&p), 0.0);
        assert_within(problem_bytes(&p), bytes_by_enumeration(&p), 0.0);
    }
}

/* The most taps that any output really receives. */
static void test_problem_reduction_length_is_reached(void **state)
{
    (void)state;
    const char *const problems[] = {"mb1ic4ih9oc6kh5sh3ph2dh2g2", "mb1ic3ih9oc2kh4sh4dh2",
                                    "mb1ic3ih9oc2kh6sh4dh3", "mb1ic1ih9oc2kh2sh5oph3"};
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        const struct problem p = parsed(problems[i]);
        int64_t most = 0;
        for (int64_t oh = 0; oh < problem_output_h(&p); oh++) {
            int64_t taps = 0;
            for (int64_t kh = 0; kh < p.kernel_h; kh++) {
                const int64_t at = oh + p.padding_h - kh * p.dilation_h;
                taps += at >= 0 && at % p.stride_h == 0 && at / p.stride_h < p.height;
            }
            most = taps > most ? taps : most;
        }
        assert_int_equal(problem_reduction_length(&p), most * most * p.in_channels / p.groups);
    }
}

static void test_problem_refused_where_pytorch_refuses(void **state)
{
    (void)state;
    refused("mb1ic3ih4oc4kh3g2", "divisible by groups");
    refused("mb1ic4ih4oc3kh3g2", "divisible by groups");
    refused("mb1ic4ih4oc4kh3g0", "must be at least 1");
    refused("mb1ic4ih4oc4kh0", "must be at least 1");
    refused("mb1ic4ih4oc4kh3sh0", "must be at least 1");
    refused("mb1ic4ih4oc4kh3dh0", "must be at least 1");
    refused("mb1ic4ih4oc4kh3sh2oph2", "smaller than either stride or dilation");
    refused("mb1ic4ih4oc4kh3oph1", "smaller than either stride or dilation");
    refused("mb1ic4ih1oc4kh1ph1", "too small");
    refused("mb1ic4ih0oc4kh1", "must be at least 1");
}

static void test_problem_accepted_where_pytorch_accepts(void **state)
{
    (void)state;
    struct problem p = parsed("mb0ic4ih4oc4kh3");
    assert_int_equal(problem_output_count(&p), 0);
    p = parsed("mb1ic4ih4oc4kh3dh2oph1"); /* output_padding below dilation */
    assert_int_equal(problem_output_h(&p), 9);
    p = parsed("mb1ic4ih4oc4kh1sh5oph4");
    assert_int_equal(problem_output_h(&p), 20);
    p = parsed("mb1ic4ih9oc4kh3ph4");
    assert_int_equal(problem_output_h(&p), 3);
}

static void test_problem_too_large_is_refused(void **state)
{
    (void)state;
    refused("mb2147483647ic2147483647ih2147483647oc1kh1", "too large");
    refused("mb1ic1ih1oc1kh9999999999", "too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_problem_home_has_its_published_sizes),
        cmocka_unit_test(test_problem_flops_and_bytes_equal_enumeration),
        cmocka_unit_test(test_problem_reduction_length_is_reached),
        cmocka_unit_test(test_problem_refused_where_pytorch_refuses),
        cmocka_unit_test(test_problem_accepted_where_pytorch_accepts),
        cmocka_unit_test(test_problem_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
