/* Which processors a worker may use. */
#include "tests/unit.h"

#include "harness/processors.h"

static int count_now(void)
{
    return processors_allowed().count;
}

static void test_narrow_leaves_as_many_as_there_are_threads(void **state)
{
    (void)state;
    const struct processors all = processors_allowed();
    assert_true(all.count > 0);
    for (int threads = 1; threads <= all.count + 1; threads++)
        for (uint64_t start = 0; start < 3; start++) {
            processors_narrow(&all, threads, start);
            assert_int_equal(count_now(), threads < all.count ? threads : all.count);
            processors_restore(&all);
            assert_int_equal(count_now(), all.count);
        }
}

/* Each start is another set, and they go round. */
static void test_narrow_counts_round(void **state)
{
    (void)state;
    const struct processors all = processors_allowed();
    if (all.count < 2)
        skip();
    cpu_set_t covered;
    CPU_ZERO(&covered);
    for (int start = 0; start < all.count; start++) {
        processors_narrow(&all, 1, (uint64_t)start);
        const struct processors one = processors_allowed();
        processors_restore(&all);
        CPU_OR(&covered, &covered, &one.all);
        processors_narrow(&all, 1, (uint64_t)(start + 3 * all.count));
        const struct processors same = processors_allowed();
        processors_restore(&all);
        assert_true(CPU_EQUAL(&one.all, &same.all));
    }
    assert_true(CPU_EQUAL(&covered, &all.all));
}

static void test_narrow_to_nothing_changes_nothing(void **state)
{
    (void)state;
    const struct processors all = processors_allowed(), unknown = {.count = 0};
    processors_narrow(&all, 0, 0);
    assert_int_equal(count_now(), all.count);
    processors_narrow(&unknown, 1, 0);
    processors_restore(&unknown);
    assert_int_equal(count_now(), all.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow_leaves_as_many_as_there_are_threads),
        cmocka_unit_test(test_narrow_counts_round),
        cmocka_unit_test(test_narrow_to_nothing_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
