/* The fused row kernel's source (gpu/fused_rows.cu) on the CPU, thread by thread, in orders that a
 * device may never show (tests/emulator/device.hpp), against the bound of its class. */
#include "harness/comparator.h"
#include "tests/emulator/emulate.h"
#include "tests/unit.h"

#include "tests/model_fixture.h"

#define POISON 0x7fc0beefu

struct run {
    const char *problem, *fill;
    int multiprocessors; /* blocks at a time: few, so that each has many tiles */
    int offset;          /* of y, in floats */
};

static enum verdict verdict_of(const struct model_fixture *f, char *where, size_t size)
{
    const struct problem *p = &f->problem;
    const struct tolerance rule = {TOLERANCE_DERIVED, 0.0, 0.0};
    struct comparison_report report;
    struct comparator *comparator;
    struct error error;
    assert_status(comparator_create(&comparator, p, &f->params, CLASS_TF32, &rule,
                                    tensor_max_magnitude(f->x, problem_input_count(p)), POISON,
                                    &error),
                  STATUS_OK);
    assert_status(comparator_images(comparator, 0, p->batch, f->x, f->y, &error), STATUS_OK);
    comparator_report(comparator, &report);
    comparator_free(comparator);
    snprintf(where, size, "err/bound %g, unwritten %lld, %s", report.error_over_bound,
             (long long)report.unwritten, report.where);
    return report.verdict;
}

static void check(const struct run *run, unsigned seed)
{
    struct model_fixture f = fixture_make(run->problem, run->fill, 7);
    const int64_t count = problem_output_count(&f.problem);
    struct error error = {0};
    char where[700];
    for (int64_t i = 0; i < count; i++)
        memcpy(&f.y[i], &(uint32_t){POISON}, sizeof *f.y);
    if (emulate_fused_rows(&f.problem, &f.params, f.x, f.y, run->multiprocessors, run->offset, seed,
                           &error) != STATUS_OK)
        fail_msg("%s: %s", run->problem, error.message);
    if (verdict_of(&f, where, sizeof where) != VERDICT_PASS)
        fail_msg("%s, %s fill, order %u: %s", run->problem, run->fill, seed, where);
    fixture_free(&f);
}

static void check_all(const struct run *runs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (unsigned seed = 1; seed <= 2; seed++)
            check(&runs[i], seed);
}

static void test_rows_of_the_home_case_in_one_stream_after_the_other(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb1ic64ih5iw64oc128kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb2ic64ih9iw64oc128kh4sh2ph1oph1", "conditioned", 4, 0},
        {"mb1ic16ih40iw64oc128kh4sh2ph1oph1", "kernelbench", 2, 0}, /* three left edges a stream */
    };
    check_all(runs, sizeof runs / sizeof *runs);
}

static void test_rows_any_kernel_padding_and_place_of_y(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb1ic64ih6iw64oc64kh4sh2ph1", "conditioned", 1, 0},
        {"mb2ic20ih7iw60oc100kh3sh2ph1oph1", "conditioned", 4, 1},
        {"mb1ic64ih6iw64oc128kh3sh2ph1", "conditioned", 2, 2},
        {"mb1ic3ih9iw57oc128kh2sh2", "conditioned", 2, 3},
        {"mb1ic8ih9iw57oc128kh2sh2ph1oph1", "conditioned", 2, 7},
    };
    check_all(runs, sizeof runs / sizeof *runs);
}

static void test_rows_few_channels_and_one_row(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb2ic24ih7iw64oc5kh4sh2ph1oph1", "conditioned", 3, 0},
        {"mb1ic40ih7iw62oc21kh4sh2ph1oph1", "conditioned", 1, 5},
        {"mb1ic64ih9iw64oc67kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb9ic8ih1iw64oc128kh4sh2ph1oph1", "conditioned", 2, 0},
        {"mb6ic8ih7iw64oc10kh4sh2ph1oph1", "conditioned", 1, 0},
    };
    check_all(runs, sizeof runs / sizeof *runs);
}

/* Images that the kernel leaves to the repair: out of range, or whose sums are. */
static void test_rows_images_that_are_computed_again(void **state)
{
    (void)state;
    const struct run runs[] = {
        {"mb3ic8ih3iw64oc12kh4sh2ph1oph1", "extreme", 1, 0},
        {"mb3ic8ih3iw64oc12kh4sh2ph1oph1", "special", 1, 0},
    };
    check_all(runs, sizeof runs / sizeof *runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_the_home_case_in_one_stream_after_the_other),
        cmocka_unit_test(test_rows_any_kernel_padding_and_place_of_y),
        cmocka_unit_test(test_rows_few_channels_and_one_row),
        cmocka_unit_test(test_rows_images_that_are_computed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
