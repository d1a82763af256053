/* The tensor-core kernels' sources on the CPU, thread by thread, in orders that a device may never
 * show (tests/emulator/device.hpp), against the bounds of their classes. */
#include "harness/comparator.h"
#include "ref/random_problem.h"
#include "tests/emulator/emulate.h"
#include "tests/unit.h"

#include "tests/model_fixture.h"

#define POISON 0x7fc0beefu
#define ORDERS 2 /* of everything that the device leaves open, for each run */
#define SEED 20261123
#define RANDOM_WANTED 25
#define RANDOM_FLOPS 4e6 /* at most, so that all of them take seconds */

static const struct variant {
    const char *name;
    emulated_variant *emulate;
    enum arithmetic_class cls;
    int blocks; /* to a cluster, for each that the first one has */
} rows[] =
    {
        {"gpu-fused-fp16's row form", emulate_fused_rows, CLASS_TF32, 1},
        {"gpu-fused-fp16x3's row form", emulate_fused_rows_x3, CLASS_FP32, 2},
},
  others[] = {
      {"gpu-fused-fp16x3's split form", emulate_fused_split, CLASS_FP32, 1},
      {"gpu-fused-fp16's small form", emulate_fused_small, CLASS_TF32, 1},
      {"gpu-fused-fp16x3's small form", emulate_fused_small_x3, CLASS_FP32, 1},
      {"gpu-stream-fp16", emulate_stream_fp16, CLASS_TF32, 1},
      {"gpu-stream-fp16x3", emulate_stream_fp16x3, CLASS_FP32, 1},
};
#define ROWS (sizeof rows / sizeof *rows)
#define OTHERS (sizeof others / sizeof *others)

struct run {
    const char *problem, *fill;
    int multiprocessors; /* blocks at a time: few, so that each has many tiles */
    int offset;          /* of y, in floats */
};

/* Whether the variant supports the problem. */
static bool check(const struct variant *variant, const struct model_fixture *f,
                  const struct run *run, unsigned order)
{
    const struct problem *p = &f->problem;
    const struct tolerance rule = {TOLERANCE_DERIVED, 0.0, 0.0};
    const int64_t count = problem_output_count(p);
    struct comparison_report report;
    struct comparator *comparator;
    struct error error = {0};
    for (int64_t i = 0; i < count; i++)
        memcpy(&f->y[i], &(uint32_t){POISON}, sizeof *f->y);
    const enum status status =
        variant->emulate(p, &f->params, f->x, f->y, run->multiprocessors * variant->blocks,
                         run->offset, order, &error);
    if (status == STATUS_UNSUPPORTED)
        return false;
    if (status != STATUS_OK)
        fail_msg("%s on %s: %s", variant->name, run->problem, error.message);
    assert_status(comparator_create(&comparator, p, &f->params, variant->cls, &rule,
                                    tensor_max_magnitude(f->x, problem_input_count(p)), POISON,
                                    &error),
                  STATUS_OK);
    assert_status(comparator_images(comparator, 0, p->batch, f->x, f->y, &error), STATUS_OK);
    comparator_report(comparator, &report);
    comparator_free(comparator);
    if (report.verdict != VERDICT_PASS)
        fail_msg("%s on %s, %s fill, order %u: err/bound %g, unwritten %lld, %s", variant->name,
                 run->problem, run->fill, order, report.error_over_bound,
                 (long long)report.unwritten, report.where);
    return true;
}

/* How many of the runs in every order were supported. */
static size_t check_all(const struct variant *variants, size_t variant_count,
                        const struct run *runs, size_t count)
{
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        struct model_fixture f = fixture_make(runs[i].problem, runs[i].fill, 7);
        for (size_t v = 0; v < variant_count; v++)
            for (unsigned order = 1; order <= ORDERS; order++)
                done += check(&variants[v], &f, &runs[i], order);
        fixture_free(&f);
    }
    return done;
}

static void test_emulated_rows(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb1ic64ih5iw64oc128kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb2ic64ih9iw64oc128kh4sh2ph1oph1", "conditioned", 4, 0},
        {"mb1ic16ih40iw64oc128kh4sh2ph1oph1", "kernelbench", 2, 0}, /* three left edges a stream */
        /* any kernel, padding and place of y */
        {"mb1ic64ih6iw64oc64kh4sh2ph1", "conditioned", 1, 0},
        {"mb2ic20ih7iw60oc100kh3sh2ph1oph1", "conditioned", 4, 1},
        {"mb1ic64ih6iw64oc128kh3sh2ph1", "conditioned", 2, 2},
        {"mb1ic3ih9iw57oc128kh2sh2", "conditioned", 2, 3},
        {"mb1ic8ih9iw57oc128kh2sh2ph1oph1", "conditioned", 2, 7},
        /* few channels, one row */
        {"mb2ic24ih7iw64oc5kh4sh2ph1oph1", "conditioned", 3, 0},
        {"mb1ic40ih7iw62oc21kh4sh2ph1oph1", "conditioned", 1, 5},
        {"mb1ic64ih9iw64oc67kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb1ic8ih9iw64oc65kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb2ic8ih4iw64oc1kh4sh2ph1oph1", "conditioned", 1, 3},
        {"mb9ic8ih1iw64oc128kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb6ic8ih7iw64oc10kh4sh2ph1oph1", "conditioned", 1, 0},
        /* images left to the repair: out of range, or whose sums are */
        {"mb3ic8ih3iw64oc12kh4sh2ph1oph1", "extreme", 1, 0},
        {"mb3ic8ih3iw64oc12kh4sh2ph1oph1", "special", 1, 0},
    };
    const size_t count = sizeof runs / sizeof *runs;
    assert_int_equal(check_all(rows, ROWS, runs, count), ORDERS * ROWS * count);
}

/* An image's bits depend neither on its place in the batch nor on the other images: once as it is,
 * then with its images one place on and one of them nothing but NaN. */
static void check_places(const struct variant *variant, const char *problem)
{
    struct model_fixture f = fixture_make(problem, "kernelbench", 7);
    const struct problem *p = &f.problem;
    const size_t x_image = (size_t)problem_input_image(p),
                 y_image = (size_t)problem_output_image(p);
    const size_t images = (size_t)p->batch;
    const int multiprocessors = 4 * variant->blocks;
    float *const x = malloc(images * x_image * sizeof *x);
    float *const y = malloc(images * y_image * sizeof *y);
    struct error error = {0};
    assert_true(x && y);
    assert_status(variant->emulate(p, &f.params, f.x, f.y, multiprocessors, 0, 1, &error),
                  STATUS_OK);
    for (size_t nan = 0; nan < 2; nan++) {
        for (size_t n = 0; n < images; n++) {
            float *const image = x + (n + 1) % images * x_image;
            memcpy(image, f.x + n * x_image, x_image * sizeof *x);
            for (size_t i = 0; i < x_image && n == nan; i++)
                image[i] = NAN;
        }
        assert_status(
            variant->emulate(p, &f.params, x, y, multiprocessors, 0, 2 + (unsigned)nan, &error),
            STATUS_OK);
        for (size_t n = 0; n < images; n++)
            if (n != nan &&
                memcmp(f.y + n * y_image, y + (n + 1) % images * y_image, y_image * sizeof *y) != 0)
                fail_msg("%s on %s: image %zu has other bits in another place", variant->name,
                         problem, n);
    }
    free(x);
    free(y);
    fixture_free(&f);
}

static void test_emulated_bits_do_not_depend_on_the_place_in_the_batch(void **state)
{
    (void)state;
    for (size_t v = 0; v < ROWS; v++)
        check_places(&rows[v], "mb3ic8ih9iw64oc128kh4sh2ph1oph1");
    for (size_t v = 0; v < OTHERS; v++)
        check_places(&others[v], "mb3ic8ih5iw20oc12kh4sh2ph1oph1");
}

static void test_emulated_layers_of_networks_and_fills(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb1ic64ih5iw64oc128kh4sh2ph1oph1", "conditioned", 4, 0},
        {"mb2ic32ih5iw16oc64kh4sh2ph1oph1", "kernelbench", 4, 1},
        {"mb3ic20ih4iw7oc3kh4sh2ph1cb0", "conditioned", 4, 2},
        {"mb1ic40ih3iw9oc70kh2sh2", "conditioned", 4, 3},
        {"mb1ic24ih6iw11oc21kh16sh8cb0", "conditioned", 4, 4},
        {"mb1ic8ih5iw13oc1kh9sh4ph4oph3", "conditioned", 4, 5},
        {"mb2ic10ih1iw1oc300kh4cb0", "conditioned", 4, 6},
        {"mb3ic8ih3iw20oc12kh4sh2ph1oph1", "extreme", 4, 7},
        {"mb3ic8ih3iw20oc12kh4sh2ph1oph1", "special", 4, 0},
    };
    const size_t count = sizeof runs / sizeof *runs;
    /* the streaming ones support all, the fused one those of stride 2 that are not too wide */
    assert_int_equal(check_all(others, OTHERS, runs, count), ORDERS * (2 * count + 17));
}

/* Parameters that saturate the sigmoid or leave no softmax. */
static void test_emulated_parameters_beyond_the_ordinary(void **state)
{
    (void)state;
    static const struct {
        float conv_bias, bias, scale;
    } parameters[] = {
        {INFINITY, 0.0f, 2.0f}, {-INFINITY, 0.0f, 2.0f},  {NAN, 0.0f, 2.0f},
        {0.0f, INFINITY, 2.0f}, {0.0f, -INFINITY, -2.0f}, {0.0f, 1e30f, 2.0f},
        {0.0f, 0.0f, 1e30f},    {500.0f, 0.0f, 1e12f},    {200.0f, 50.0f, -30.0f},
    };
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        for (size_t v = 0; v < ROWS + OTHERS; v++) {
            const struct variant *variant = v < ROWS ? &rows[v] : &others[v - ROWS];
            const struct run run = {v < ROWS ? "mb2ic8ih3iw64oc12kh4sh2ph1oph1"
                                             : "mb2ic8ih3iw20oc12kh4sh2ph1oph1",
                                    "conditioned", 4, 0};
            struct model_fixture f = fixture_make(run.problem, run.fill, 7);
            f.conv_bias[5] += parameters[i].conv_bias;
            f.bias[7] += parameters[i].bias;
            f.problem.scaling_factor = parameters[i].scale;
            const bool streams = v > ROWS; /* the last two; the others have no maximum */
            assert_int_equal(check(variant, &f, &run, 1), streams || parameters[i].scale < 1e13f);
            fixture_free(&f);
        }
}

/* Tensors down to one of which fp16 keeps nothing, at bounds that know how dark they are. */
static void test_emulated_dark_images(void **state)
{
    (void)state;
    for (size_t v = 0; v < ROWS + OTHERS; v++)
        for (int octave = -6; octave >= -30; octave -= 8) {
            const struct variant *variant = v < ROWS ? &rows[v] : &others[v - ROWS];
            const struct run run = {v < ROWS ? "mb1ic16ih3iw64oc12kh4sh2ph1oph1"
                                             : "mb1ic16ih3iw20oc12kh4sh2ph1oph1",
                                    "kernelbench", 4, 0};
            struct model_fixture f = fixture_make(run.problem, run.fill, 7);
            for (int64_t i = 0; i < problem_input_count(&f.problem); i++)
                f.x[i] = ldexpf(f.x[i], octave);
            assert_true(check(variant, &f, &run, 1));
            fixture_free(&f);
        }
}

static void test_emulated_random_problems(void **state)
{
    (void)state;
    size_t done[OTHERS] = {0};
    for (int64_t i = 0; done[3] < RANDOM_WANTED; i++) {
        const struct problem p = random_problem(SEED, i);
        char text[DESCRIPTOR_SIZE];
        if (problem_flops(&p) > RANDOM_FLOPS || problem_output_count(&p) == 0)
            continue;
        descriptor_print(&p, text, sizeof text);
        const struct run run = {text, "conditioned", 4, (int)(i % 8)};
        struct model_fixture f = fixture_make(text, run.fill, (uint64_t)i);
        for (size_t v = 0; v < OTHERS; v++)
            done[v] += check(&others[v], &f, &run, (unsigned)i);
        fixture_free(&f);
    }
    assert_true(done[3] > RANDOM_WANTED / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emulated_rows),
        cmocka_unit_test(test_emulated_bits_do_not_depend_on_the_place_in_the_batch),
        cmocka_unit_test(test_emulated_layers_of_networks_and_fills),
        cmocka_unit_test(test_emulated_parameters_beyond_the_ordinary),
        cmocka_unit_test(test_emulated_dark_images),
        cmocka_unit_test(test_emulated_random_problems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
