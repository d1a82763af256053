/* Comparisons of made-up records: verdicts, sides, machines, the gate. */
#include "tests/unit.h"

#include "harness/comparison_print.h"
#include "harness/timeline.h"

static struct record_set set;
static struct comparison_list list;
static uint64_t seed;

static int begin(void **state)
{
    (void)state;
    set = (struct record_set){0};
    list = (struct comparison_list){0};
    seed = 1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    comparison_release(&list);
    record_set_release(&set);
    return 0;
}

struct made {
    const char *commit, *implementation, *machine, *verdict, *run, *binary, *file;
    double level; /* 0: not timed */
    int rounds, dirty, minute;
    int samples; /* 0: twenty */
};

/* Samples between 1 and 1.002 times the level; in rounds where that is asked. */
static void add(struct made m)
{
    static int number;
    static char line[1 << 17];
    struct error error;
    size_t n = (size_t)snprintf(
        line, sizeof line,
        "{\"schema\":1,\"kind\":\"bench\",\"time\":\"2026-01-01T00:%02d:00Z\",\"run\":\"%s\","
        "\"commit\":\"%s\",\"commit_time\":\"2026-01-01T00:%02d:00Z\",\"dirty\":%s,"
        "\"binary\":\"%s\",\"machine\":\"%s\",\"problem\":\"p\",\"fill\":\"conditioned\","
        "\"implementation\":\"%s\",\"class\":\"fp32\",\"verdict\":\"%s\",\"threads\":2,"
        "\"rounds\":%d,\"load\":%d,\"samples_s\":[",
        m.minute, m.run ? m.run : "", m.commit, m.minute, m.dirty ? "true" : "false",
        m.binary ? m.binary : m.commit, m.machine ? m.machine : "M", m.implementation,
        m.verdict ? m.verdict : "pass", m.rounds, number++);
    for (int i = 0; i < (m.samples ? m.samples : 20) && m.level > 0.0; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        n += (size_t)snprintf(line + n, sizeof line - n, "%s%.9g", i ? "," : "",
                              m.level * (1.0 + 0.002 * (double)(seed >> 40) * 0x1p-24));
    }
    snprintf(line + n, sizeof line - n, "]}");
    const char *file = m.file ? m.file : "f";
    file = text_pool_add(&set.texts, file, strlen(file));
    assert_status(record_set_add_line(&set, line, strlen(line), file, 1, &error), STATUS_OK);
}

static void compare(const char *a, const char *b)
{
    struct comparison_side sides[2] = {{.word = a}, {.word = b}};
    const struct comparison_options options = {COMPARISON_CONFIDENCE, -1.0, false};
    struct error error;
    const char *const words[] = {a, b};
    for (int i = 0; i < 2; i++) {
        if (!strchr(words[i], '/'))
            snprintf(sides[i].commit, sizeof sides[i].commit, "%s", words[i]);
        /* Else the records of that file, which were added one behind the other. */
        for (int64_t k = 0; k < set.count && !sides[i].commit[0]; k++)
            if (strcmp(set.records[k].file, words[i]) == 0) {
                sides[i].first = sides[i].end == 0 ? k : sides[i].first;
                sides[i].end = k + 1;
            }
    }
    comparison_release(&list);
    assert_status(comparison_make(&set, &sides[0], &sides[1], &options, &list, &error), STATUS_OK);
}

static void test_compare_slower_beyond_noise_is_a_regression(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 1.10});
    compare("aaaa", "bbbb");
    assert_int_equal(list.count, 1);
    assert_true(list.rows[0].timed);
    assert_int_equal(list.rows[0].change, CHANGE_SLOWER);
    assert_within(list.rows[0].ratio.ratio, 1.1, 0.001);
    assert_int_equal(comparison_regressions(&list, 0.02), 1);
    assert_int_equal(comparison_regressions(&list, 0.15), 0);
    compare("bbbb", "aaaa");
    assert_int_equal(list.rows[0].change, CHANGE_FASTER);
    assert_int_equal(comparison_regressions(&list, 0.0), 0);
}

static void test_compare_within_noise_is_the_same(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 1.02}); /* runs apart */
    compare("aaaa", "bbbb");
    assert_int_equal(list.rows[0].change, CHANGE_SAME);
}

static void test_compare_rounds_of_one_run_are_paired(void **state)
{
    (void)state;
    add((struct made){
        .commit = "aaaa", .implementation = "i", .level = 1.0, .run = "r", .rounds = 10});
    add((struct made){
        .commit = "bbbb", .implementation = "i", .level = 1.02, .run = "r", .rounds = 10});
    compare("aaaa", "bbbb");
    assert_true(list.rows[0].interleaved);
    assert_int_equal(list.rows[0].ratio.n, 10);
    assert_int_equal(list.rows[0].change, CHANGE_SLOWER); /* the noise of pairs is smaller */
}

static void test_compare_other_machine_is_never_compared(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0, .machine = "M"});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 9.0, .machine = "N"});
    compare("aaaa", "bbbb");
    assert_int_equal(list.count, 2);
    assert_false(list.rows[0].timed);
    assert_false(list.rows[1].timed);
    assert_int_equal(list.apart_count, 1);
    assert_string_equal(list.apart[0].a.machine, "M");
    assert_string_equal(list.apart[0].b.machine, "N");
    assert_int_equal(comparison_regressions(&list, 0.0), 0);
}

static void test_compare_new_failure_is_a_regression(void **state)
{
    (void)state;
    static const char *const verdicts[] = {"fail", "crashed", "timeout"};
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    for (int i = 0; i < 3; i++) {
        char commit[8];
        snprintf(commit, sizeof commit, "bbb%d", i);
        add((struct made){.commit = commit, .implementation = "i", .verdict = verdicts[i]});
        compare("aaaa", commit);
        assert_true(list.rows[0].failure);
        assert_int_equal(comparison_regressions(&list, 1.0), 1);
        compare(commit, "aaaa");
        assert_true(list.rows[0].repaired);
        assert_int_equal(comparison_regressions(&list, 0.0), 0);
        compare(commit, commit); /* an old failure is none */
        assert_int_equal(comparison_regressions(&list, 0.0), 0);
    }
}

static void test_compare_one_failing_run_of_several_is_a_failure(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .verdict = "fail"});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 1.0});
    compare("aaaa", "bbbb");
    assert_true(list.rows[0].failure);
}

static void test_compare_identical_binary_is_the_gauge_and_no_regression(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0, .binary = "x"});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 1.2, .binary = "x"});
    add((struct made){.commit = "aaaa", .implementation = "j", .level = 1.0, .binary = "y"});
    add((struct made){.commit = "bbbb", .implementation = "j", .level = 1.1, .binary = "z"});
    compare("aaaa", "bbbb");
    assert_int_equal(list.identical, 1);
    assert_within(list.identical_worst, 0.2, 0.001);
    assert_int_equal(list.rows[0].change, CHANGE_SLOWER);
    assert_int_equal(list.rows[1].change,
                     CHANGE_SAME); /* 10 % is within what identical code does */
    assert_int_equal(comparison_regressions(&list, 0.0), 0);
}

static void test_compare_dirty_records_are_left_out(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 2.0, .dirty = 1});
    compare("aaaa", "bbbb");
    assert_null(list.rows[0].b);
}

static void test_compare_files_take_the_newest_commit_of_each(void **state)
{
    (void)state;
    add((struct made){
        .commit = "aaaa", .implementation = "i", .level = 5.0, .file = "./a", .minute = 1});
    add((struct made){
        .commit = "cccc", .implementation = "i", .level = 1.0, .file = "./a", .minute = 3});
    add((struct made){
        .commit = "bbbb", .implementation = "i", .level = 7.0, .file = "./a", .minute = 2});
    add((struct made){
        .commit = "dddd", .implementation = "i", .level = 1.0, .file = "./b", .minute = 4});
    compare("./a", "./b");
    assert_string_equal(list.rows[0].a->commit, "cccc");
    assert_within(list.rows[0].ratio.ratio, 1.0, 0.002);
}

/* The first alone would fill the room. */
static void add_five_long_runs(void)
{
    for (int i = 0; i < 5; i++)
        add((struct made){.commit = "bbbb",
                          .implementation = "i",
                          .level = i == 0 ? 1.0 : 2.0,
                          .samples = MEASUREMENT_SAMPLES});
}

static void test_compare_every_long_run_counts(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add_five_long_runs();
    compare("aaaa", "bbbb");
    assert_within(list.rows[0].b_median.median, 2.0, 0.005);
    assert_within(list.rows[0].ratio.ratio, 2.0, 0.01);
    assert_int_equal(list.rows[0].change, CHANGE_SLOWER);
}

static void test_compare_every_pair_of_long_runs_counts(void **state)
{
    (void)state;
    static const char *const runs[] = {"r", "s", "t", "u", "v"};
    for (int i = 0; i < 5; i++) {
        struct made m = {.commit = "aaaa", .implementation = "i", .level = 1.0, .run = runs[i]};
        m.samples = m.rounds = 4000; /* the first alone would fill the room */
        add(m);
        m.commit = "bbbb";
        m.level = i == 0 ? 1.0 : 2.0;
        m.samples = 2 * m.rounds;
        add(m);
    }
    compare("aaaa", "bbbb");
    assert_true(list.rows[0].interleaved);
    assert_within(list.rows[0].ratio.ratio, 2.0, 0.01);
}

static void test_samples_of_long_runs_are_equal_shares_in_order(void **state)
{
    (void)state;
    static double samples[MEASUREMENT_SAMPLES];
    const struct record *runs[5];
    add_five_long_runs();
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 3.0});
    for (int i = 0; i < 5; i++)
        runs[i] = &set.records[i + 1];
    const int64_t n = comparison_samples(&set, runs, 5, false, samples);
    assert_int_equal(n, 4 * MEASUREMENT_SAMPLES / 5 + 20);
    for (int64_t i = 0; i < n; i++) /* twenty are less than a share */
        assert_within(samples[i], i < n - 20 ? 2.0 : 3.0, 0.01);
    runs[4] = &set.records[0];
    assert_int_equal(comparison_samples(&set, runs, 5, false, samples), MEASUREMENT_SAMPLES);
    for (int64_t i = 0; i < MEASUREMENT_SAMPLES; i++)
        assert_within(samples[i], i < 4 * MEASUREMENT_SAMPLES / 5 ? 2.0 : 1.0, 0.01);
    assert_int_equal(comparison_samples(&set, runs, 5, true, samples), 5);
    assert_within(samples[4], 1.0, 0.005);
}

static void test_compare_mean_is_geometric(void **state)
{
    (void)state;
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 2.0});
    add((struct made){.commit = "aaaa", .implementation = "j", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "j", .level = 0.5});
    compare("aaaa", "bbbb");
    int64_t n;
    assert_within(comparison_mean(&list, NULL, &n), 1.0, 0.003);
    assert_int_equal(n, 2);
}

static void test_compare_calibration_sets_the_noise(void **state)
{
    (void)state;
    static const char line[] =
        "{\"schema\":1,\"kind\":\"calibration\",\"time\":\"2026\",\"machine\":\"M\",\"problem\":"
        "\"p\","
        "\"implementation\":\"i\",\"interleaved_noise\":0.002,\"separate_noise\":0.2}";
    struct error error;
    assert_status(record_set_add_line(&set, line, strlen(line), "f", 1, &error), STATUS_OK);
    add((struct made){.commit = "aaaa", .implementation = "i", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "i", .level = 1.10});
    add((struct made){.commit = "aaaa", .implementation = "gpu-x", .level = 1.0});
    add((struct made){.commit = "bbbb", .implementation = "gpu-x", .level = 1.10});
    compare("aaaa", "bbbb");
    assert_int_equal(list.rows[0].change, CHANGE_SAME);
    assert_within(list.rows[0].noise, 0.2, 0.0);
    assert_within(list.rows[1].noise, NOISE_SEPARATE, 0.0); /* a CPU says nothing about a GPU */
    assert_int_equal(list.rows[1].change, CHANGE_SLOWER);
}

static void test_interval_text_tells_low_from_high(void **state)
{
    (void)state;
    char text[INTERVAL_TEXT_SIZE];
    assert_string_equal(interval_text(&(struct median){2.0, 1.938, 2.168}, text), "-3.1 % +8.4 %");
    assert_string_equal(interval_text(&(struct median){1.0, 1.0, 3.24}, text), "-0.0 % +224.0 %");
}

static void test_timeline_of_a_step_has_one_change_in_commit_order(void **state)
{
    (void)state;
    for (int i = 39; i >= 0; i--) { /* the file's order is not the commits' */
        char commit[8];
        snprintf(commit, sizeof commit, "%04d", i);
        add((struct made){
            .commit = commit, .implementation = "i", .minute = i, .level = i < 25 ? 1.0 : 1.05});
    }
    struct series_list series;
    struct timeline t;
    struct error error;
    const struct commit_order none = {0};
    assert_status(series_build(&set, NULL, NULL, &series, &error), STATUS_OK);
    assert_int_equal(series.count, 1);
    assert_status(timeline_build(&set, &series.series[0], &none, 0.003, false, &t, &error),
                  STATUS_OK);
    assert_int_equal(t.count, 40);
    assert_int_equal(t.changes, 1);
    for (int i = 0; i < 40; i++)
        assert_true(t.points[i].change == (i == 25));
    assert_string_equal(t.points[25].newest->commit, "0025");
    assert_within(t.points[25].after / t.points[25].before, 1.05, 0.002);
    timeline_release(&t);
    series_release(&series);
}

static void test_timeline_every_long_run_counts(void **state)
{
    (void)state;
    add_five_long_runs();
    struct series_list series;
    struct timeline t;
    struct error error;
    const struct commit_order none = {0};
    assert_status(series_build(&set, NULL, NULL, &series, &error), STATUS_OK);
    assert_status(timeline_build(&set, &series.series[0], &none, 0.003, false, &t, &error),
                  STATUS_OK);
    assert_int_equal(t.points[0].runs, 5);
    assert_within(t.points[0].median.median, 2.0, 0.005);
    timeline_release(&t);
    series_release(&series);
}

int main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        EACH(test_compare_slower_beyond_noise_is_a_regression),
        EACH(test_compare_within_noise_is_the_same),
        EACH(test_compare_rounds_of_one_run_are_paired),
        EACH(test_compare_other_machine_is_never_compared),
        EACH(test_compare_new_failure_is_a_regression),
        EACH(test_compare_one_failing_run_of_several_is_a_failure),
        EACH(test_compare_identical_binary_is_the_gauge_and_no_regression),
        EACH(test_compare_dirty_records_are_left_out),
        EACH(test_compare_files_take_the_newest_commit_of_each),
        EACH(test_compare_every_long_run_counts),
        EACH(test_compare_every_pair_of_long_runs_counts),
        EACH(test_samples_of_long_runs_are_equal_shares_in_order),
        EACH(test_compare_mean_is_geometric),
        EACH(test_compare_calibration_sets_the_noise),
        EACH(test_interval_text_tells_low_from_high),
        EACH(test_timeline_of_a_step_has_one_change_in_commit_order),
        EACH(test_timeline_every_long_run_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
