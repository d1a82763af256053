/* The C ABI of libassay (harness/assay.h), on the CPU. */
#include "harness/assay.h"
#include "ref/model_direct.h"
#include "tests/unit.h"

/* 4 -> 6 channels in 2 groups, 4 x 3 -> 8 x 9, pairs all different. */
static struct assay_problem small_problem(void)
{
    return (struct assay_problem){.batch = 3,
                                  .in_channels = 4,
                                  .out_channels = 6,
                                  .height = 4,
                                  .width = 3,
                                  .kernel = {3, 2},
                                  .stride = {2, 3},
                                  .padding = {1, 0},
                                  .output_padding = {1, 0},
                                  .dilation = {1, 2},
                                  .groups = 2,
                                  .bias_count = 6,
                                  .has_conv_bias = 1,
                                  .scaling_factor = 1.5};
}

static struct problem as_problem(const struct assay_problem *a)
{
    return (struct problem){a->batch,
                            a->in_channels,
                            a->out_channels,
                            a->height,
                            a->width,
                            a->kernel[0],
                            a->kernel[1],
                            a->stride[0],
                            a->stride[1],
                            a->padding[0],
                            a->padding[1],
                            a->output_padding[0],
                            a->output_padding[1],
                            a->dilation[0],
                            a->dilation[1],
                            a->groups,
                            a->bias_count,
                            a->has_conv_bias != 0,
                            (float)a->scaling_factor};
}

struct tensors {
    float x[3 * 4 * 4 * 3], weight[4 * 3 * 3 * 2], conv_bias[6], bias[6];
    float y[3 * 6 * 8 * 9];
    double expected[6 * 8 * 9];
};

static void number(float *values, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
    }
}

#define NUMBER(array, seed) number(array, sizeof(array) / sizeof *(array), seed)

static void tensors_init(struct tensors *t)
{
    NUMBER(t->x, 1);
    NUMBER(t->weight, 2);
    NUMBER(t->conv_bias, 3);
    NUMBER(t->bias, 4);
    for (size_t i = 0; i < sizeof t->y / sizeof *t->y; i++)
        t->y[i] = NAN;
}

static void test_library_says_what_it_is(void **state)
{
    (void)state;
    assert_true(assay_abi_version() >= ASSAY_ABI_VERSION);
    assert_non_null(strstr(assay_build(), "libassay"));
    assert_true(assay_device_count() >= 0);
}

static void test_plan_on_cpu_computes_the_definition(void **state)
{
    (void)state;
    const struct assay_problem a = small_problem();
    const struct problem p = as_problem(&a);
    struct tensors t;
    struct assay_plan *plan;
    struct error error;
    int64_t height, width;
    tensors_init(&t);
    assert_int_equal(assay_output_size(&a, &height, &width), ASSAY_OK);
    assert_int_equal(height, 8);
    assert_int_equal(width, 9);
    assert_int_equal(
        assay_plan_create(&plan, &a, ASSAY_CPU, "fp32", NULL, t.weight, t.conv_bias, t.bias),
        ASSAY_OK);
    assert_int_equal(assay_plan_images(plan), 3);
    assert_string_equal(assay_plan_note(plan), "cpu-gemm");
    assay_set_threads(2);
    assert_int_equal(assay_plan_run(plan, t.x, t.y, 3, NULL), ASSAY_OK);
    const struct params params = {t.weight, t.conv_bias, t.bias};
    for (int n = 0; n < 3; n++) {
        assert_status(model_direct_image(&p, &params, t.x + n * 48, t.expected, &error), STATUS_OK);
        for (int i = 0; i < 6 * 8 * 9; i++)
            assert_within(t.y[n * 432 + i], t.expected[i], 1e-6);
    }
    float whole[3 * 6 * 8 * 9];
    assert_int_equal(assay_plan_run_host(plan, t.x, whole), ASSAY_OK);
    assert_memory_equal(whole, t.y, sizeof whole);
    assay_plan_free(plan);
}

static void test_plan_holds_only_its_own_parameters(void **state)
{
    (void)state;
    const struct assay_problem a = small_problem();
    struct tensors t;
    struct assay_plan *plan;
    tensors_init(&t);
    assert_int_equal(
        assay_plan_create(&plan, &a, ASSAY_CPU, "tf32", "cpu-gemm", t.weight, t.conv_bias, t.bias),
        ASSAY_OK);
    assert_int_equal(assay_plan_holds(plan, t.weight, t.conv_bias, t.bias), 1);
    assert_int_equal(assay_plan_holds(plan, t.weight, NULL, t.bias), 0);
    t.weight[71] += 0x1p-20f;
    assert_int_equal(assay_plan_holds(plan, t.weight, t.conv_bias, t.bias), 0);
    t.weight[71] -= 0x1p-20f;
    t.bias[5] = -t.bias[5];
    assert_int_equal(assay_plan_holds(plan, t.weight, t.conv_bias, t.bias), 0);
    assay_plan_free(plan);
}

static void test_bad_requests_are_refused_with_a_line(void **state)
{
    (void)state;
    const struct {
        const char *arithmetic, *variant;
        int device;
        int64_t output_padding, groups;
        int status;
        const char *says;
    } requests[] = {
        {"fp32", NULL, ASSAY_CPU, 7, 2, ASSAY_BAD_INPUT, "output_padding"},
        {"fp32", NULL, ASSAY_CPU, 1, 4, ASSAY_BAD_INPUT, "groups"},
        {"fp99", NULL, ASSAY_CPU, 1, 2, ASSAY_BAD_INPUT, "fp99"},
        {"fp64", NULL, ASSAY_CPU, 1, 2, ASSAY_UNSUPPORTED, "fp64"},
        {"fp32", "gpu-auto", ASSAY_CPU, 1, 2, ASSAY_UNSUPPORTED, "gpu-auto"},
        {"fp32", "no-such", 0, 1, 2, ASSAY_UNSUPPORTED, ""},
    };
    struct tensors t;
    tensors_init(&t);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct assay_problem a = small_problem();
        struct assay_plan *plan;
        a.output_padding[0] = requests[i].output_padding;
        a.groups = requests[i].groups;
        assert_int_equal(assay_plan_create(&plan, &a, requests[i].device, requests[i].arithmetic,
                                           requests[i].variant, t.weight, t.conv_bias, t.bias),
                         requests[i].status);
        assert_null(plan);
        assert_non_null(strstr(assay_last_error(), requests[i].says));
        assert_null(strchr(assay_last_error(), '\n'));
        assert_true(assay_last_error()[0] != 0);
    }
    struct assay_problem a = small_problem();
    struct assay_plan *plan;
    assert_int_equal(assay_plan_create(&plan, &a, ASSAY_CPU, "fp32", NULL, t.weight, NULL, t.bias),
                     ASSAY_BAD_INPUT);
    a.batch = -1;
    assert_int_equal(assay_output_size(&a, NULL, NULL), ASSAY_BAD_INPUT);
    assay_plan_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_library_says_what_it_is),
        cmocka_unit_test(test_plan_on_cpu_computes_the_definition),
        cmocka_unit_test(test_plan_holds_only_its_own_parameters),
        cmocka_unit_test(test_bad_requests_are_refused_with_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
