/* The tensor-core kernels' sources on the CPU, thread by thread, in orders that a device may never
 * show (tests/emulator/device.hpp), against the bounds of their classes. tests/test_fused_rows.c
 * has the row kernel. */
#include "harness/comparator.h"
#include "ref/random_problem.h"
#include "tests/emulator/emulate.h"
#include "tests/unit.h"

#include "tests/model_fixture.h"

#define POISON 0x7fc0beefu
#define SEED 20261123
#define RANDOM_WANTED 25
#define RANDOM_FLOPS 4e6 /* at most: a product takes the emulator 10 ns */

static const struct variant {
    const char *name;
    emulated_variant *emulate;
    enum arithmetic_class cls;
} variants[] = {
    {"gpu-fused-fp16x3", emulate_fused_fp16x3, CLASS_FP32},
    {"gpu-stream-fp16", emulate_stream_fp16, CLASS_TF32},
    {"gpu-stream-fp16x3", emulate_stream_fp16x3, CLASS_FP32},
};
#define VARIANTS (sizeof variants / sizeof *variants)

/* Whether the variant supports it. */
static bool check(const struct variant *variant, const struct model_fixture *f, const char *fill,
                  unsigned seed)
{
    const struct problem *p = &f->problem;
    const struct tolerance rule = {TOLERANCE_DERIVED, 0.0, 0.0};
    const int64_t count = problem_output_count(p);
    struct comparison_report report;
    struct comparator *comparator;
    struct error error = {0};
    char text[DESCRIPTOR_SIZE];
    descriptor_print(p, text, sizeof text);
    for (int64_t i = 0; i < count; i++)
        memcpy(&f->y[i], &(uint32_t){POISON}, sizeof *f->y);
    const enum status status =
        variant->emulate(p, &f->params, f->x, f->y, 4, (int)(seed % 8), seed, &error);
    if (status == STATUS_UNSUPPORTED)
        return false;
    if (status != STATUS_OK)
        fail_msg("%s on %s: %s", variant->name, text, error.message);
    assert_status(comparator_create(&comparator, p, &f->params, variant->cls, &rule,
                                    tensor_max_magnitude(f->x, problem_input_count(p)), POISON,
                                    &error),
                  STATUS_OK);
    assert_status(comparator_images(comparator, 0, p->batch, f->x, f->y, &error), STATUS_OK);
    comparator_report(comparator, &report);
    comparator_free(comparator);
    if (report.verdict != VERDICT_PASS)
        fail_msg("%s on %s, %s fill, order %u: err/bound %g, %s", variant->name, text, fill, seed,
                 report.error_over_bound, report.where);
    return true;
}

static void test_emulated_layers_of_networks_and_fills(void **state)
{
    (void)state;
    const struct {
        const char *problem, *fill;
    } runs[] = {
        {"mb1ic64ih5iw64oc128kh4sh2ph1oph1", "conditioned"},
        {"mb2ic32ih5iw16oc64kh4sh2ph1oph1", "kernelbench"},
        {"mb3ic20ih4iw7oc3kh4sh2ph1cb0", "conditioned"},
        {"mb1ic40ih3iw9oc70kh2sh2", "conditioned"},
        {"mb1ic24ih6iw11oc21kh16sh8cb0", "conditioned"},
        {"mb1ic8ih5iw13oc1kh9sh4ph4oph3", "conditioned"},
        {"mb2ic10ih1iw1oc300kh4cb0", "conditioned"},
        {"mb3ic8ih3iw20oc12kh4sh2ph1oph1", "extreme"},
        {"mb3ic8ih3iw20oc12kh4sh2ph1oph1", "special"},
    };
    size_t done = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct model_fixture f = fixture_make(runs[i].problem, runs[i].fill, 7);
        for (size_t v = 0; v < VARIANTS; v++)
            for (unsigned seed = 1; seed <= 2; seed++)
                done += check(&variants[v], &f, runs[i].fill, seed);
        fixture_free(&f);
    }
    assert_true(done >= 40); /* two of three support all */
}

static void test_emulated_random_problems(void **state)
{
    (void)state;
    size_t done[VARIANTS] = {0};
    for (int64_t i = 0; done[1] < RANDOM_WANTED; i++) {
        const struct problem p = random_problem(SEED, i);
        char text[DESCRIPTOR_SIZE];
        if (problem_flops(&p) > RANDOM_FLOPS || problem_output_count(&p) == 0)
            continue;
        descriptor_print(&p, text, sizeof text);
        struct model_fixture f = fixture_make(text, "conditioned", (uint64_t)i);
        for (size_t v = 0; v < VARIANTS; v++)
            done[v] += check(&variants[v], &f, "conditioned", (unsigned)i);
        fixture_free(&f);
    }
    assert_true(done[2] > RANDOM_WANTED / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emulated_layers_of_networks_and_fills),
        cmocka_unit_test(test_emulated_random_problems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
