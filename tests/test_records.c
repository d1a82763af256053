/* Records: written whole or not at all by several writers, read back whatever else is in the file.
 */
#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/record.h"
#include "harness/record_read.h"

static char folder[64];
static char path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/assay-records-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/r.jsonl", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    return 0;
}

/* A record whose numbers follow from `number`; samples make it as long as is asked. */
static json_t *make(int number, int samples)
{
    char commit[16];
    snprintf(commit, sizeof commit, "%012x", number);
    json_t *o =
        json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:f}", "schema", 1, "kind", "bench", "commit",
                  commit, "machine", "M, 2 cores", "problem", "mb1ic1ih1oc1kh1", "implementation",
                  "cpu-gemm", "verdict", "pass", "dirty", 0, "median_s", 0.001 * number);
    json_t *array = json_array();
    for (int i = 0; i < samples; i++)
        json_array_append_new(array, json_real(1e-3 + 1e-9 * i));
    json_object_set_new(o, "samples_s", array);
    return o;
}

static void append(int number, int samples)
{
    struct error error;
    json_t *o = make(number, samples);
    assert_status(record_append(path, o, &error), STATUS_OK);
    json_decref(o);
}

static void put(const char *text)
{
    FILE *f = fopen(path, "a");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct record_set read_all(void)
{
    struct record_set set = {0};
    struct error error;
    assert_status(record_set_read(&set, path, &error), STATUS_OK);
    return set;
}

static void test_record_append_then_read_gives_the_same(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++)
        append(i, 20 + i);
    struct record_set set = read_all();
    assert_int_equal(set.count, 3);
    assert_int_equal(set.skipped, 0);
    for (int i = 0; i < 3; i++) {
        const struct record *r = &set.records[i];
        assert_string_equal(r->implementation, "cpu-gemm");
        assert_int_equal(r->sample_count, 21 + i);
        assert_within(r->median_s, 0.001 * (i + 1), 0.0);
        assert_within(record_samples(&set, r)[7], 1e-3 + 7e-9, 1e-18);
        assert_int_equal(r->line, i + 1);
        assert_true(isnan(r->floor_s));
        assert_null(r->device);
    }
    assert_ptr_equal(set.records[0].machine, set.records[2].machine);
    record_set_release(&set);
}

static void test_record_append_two_writers_keep_every_line_whole(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 60, SAMPLES = 900 }; /* lines of more than a page */
    for (int w = 0; w < WRITERS; w++)
        if (fork() == 0) {
            struct error error;
            int bad = 0;
            for (int i = 0; i < EACH; i++) {
                json_t *o = make(1 + w * EACH + i, SAMPLES);
                bad |= record_append(path, o, &error) != STATUS_OK;
                json_decref(o);
            }
            _exit(bad);
        }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        wait(&status);
        assert_int_equal(status, 0);
    }
    struct record_set set = read_all();
    assert_int_equal(set.count, WRITERS * EACH);
    assert_int_equal(set.skipped, 0);
    record_set_release(&set);
}

static void test_record_append_killed_writers_spoil_no_other_line(void **state)
{
    (void)state;
    int64_t finished = 0;
    for (int round = 0; round < 30; round++) {
        const pid_t pid = fork();
        if (pid == 0) {
            struct error error;
            for (int i = 0;; i++) {
                json_t *o = make(1 + round * 100000 + i, 900);
                record_append(path, o, &error);
                json_decref(o);
            }
        }
        usleep((useconds_t)(500 + 700 * round % 9000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        append(50000000 + round, 10); /* the next writer, whatever the last one left */
        finished++;
    }
    struct record_set set = read_all();
    int64_t ours = 0;
    for (int64_t i = 0; i < set.count; i++)
        ours += set.records[i].sample_count == 10;
    assert_int_equal(ours, finished);
    assert_true(set.skipped <= 30); /* at most the one that was being written */
    record_set_release(&set);
}

static void test_record_append_full_disk_leaves_the_file_as_it_was(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct error error;
    append(1, 10);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 2000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    json_t *o = make(2, 900);
    const enum status status = record_append(path, o, &error);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    json_decref(o);
    assert_int_equal(status, STATUS_ENVIRONMENT);
    append(3, 10);
    struct record_set set = read_all();
    assert_int_equal(set.count, 2);
    assert_int_equal(set.skipped, 0);
    record_set_release(&set);
}

static void test_record_append_no_folder_is_refused(void **state)
{
    (void)state;
    struct error error;
    json_t *o = make(1, 1);
    assert_status(record_append("/nonexistent/r.jsonl", o, &error), STATUS_ENVIRONMENT);
    assert_status(record_append("/tmp", o, &error), STATUS_ENVIRONMENT);
    assert_status(record_append("/dev/null", o, &error), STATUS_ENVIRONMENT);
    json_decref(o);
}

static void test_record_read_torn_and_foreign_lines_are_skipped(void **state)
{
    (void)state;
    append(1, 5);
    put("{\"schema\":1,\"kind\":\"bench\",\"comm\n"); /* torn, ended by a later writer */
    put("[1,2]\nnull\n{}\n{\"a\":{\"b\":[]}}\n\n   \n");
    put("{\"schema\":99,\"kind\":\"bench\"}\n");
    put("{\"schema\":1,\"commit\":\"a\",\"machine\":\"m\",\"problem\":7,\"implementation\":\"i\","
        "\"verdict\":\"pass\"}\n");
    put("{\"schema\":1,\"commit\":\"a\",\"machine\":\"m\",\"problem\":\"p\",\"implementation\":"
        "\"i\","
        "\"verdict\":\"pass\",\"samples_s\":[0.0]}\n");
    append(2, 6);
    put("{\"schema\":1,\"kind\":\"be"); /* torn, and the last */
    struct record_set set = read_all();
    assert_int_equal(set.count, 2);
    assert_int_equal(set.skipped, 9);
    assert_int_equal(set.sample_count, 11);
    record_set_release(&set);
    append(3, 7); /* the torn line is ended first */
    set = read_all();
    assert_int_equal(set.count, 3);
    assert_int_equal(set.records[2].sample_count, 7);
    record_set_release(&set);
}

static void test_record_read_repeated_line_counts_once(void **state)
{
    (void)state;
    append(1, 5);
    append(2, 5);
    append(1, 5);
    struct record_set set = read_all();
    assert_int_equal(set.count, 2);
    assert_int_equal(set.duplicates, 1);
    record_set_release(&set);
}

static void test_record_read_any_spelling_of_json_is_understood(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"schema\": 1, \"commit\": \"c\", \"machine\": \"M\\u00e9 \\\"x\\\"\", \"problem\": "
        "\"p\", "
        "\"implementation\": \"i\", \"verdict\": \"pass\", \"samples_s\": [1e-3, 2.5E-3 ,1]}",
        "\t{ \"x\":{\"y\":[1,{\"z\":null}],\"w\":\"\"},\"samples_s\":[1e-3,2.5E-3,1.0],"
        "\"verdict\":\"pass\",\"implementation\":\"i\",\"problem\":\"p\",\"machine\":\"M\","
        "\"commit\":\"c\",\"schema\":1.0,\"median_s\":1.7976931348623157e-300 } \r",
        "{\"schema\":1,\"commit\":\"c\",\"machine\":\"M\xc3\xa9\",\"problem\":\"p\",\"fill\":null,"
        "\"implementation\":\"i\",\"verdict\":\"pass\",\"samples_s\":[0.001,25e-4,1],\"q\":true}",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct record_set set = {0};
        struct error error;
        assert_status(record_set_add_line(&set, lines[i], strlen(lines[i]), "f", 1, &error),
                      STATUS_OK);
        assert_int_equal(set.count, 1);
        assert_int_equal(set.records[0].sample_count, 3);
        assert_within(set.samples[0], 1e-3, 0.0);
        assert_within(set.samples[1], 2.5e-3, 0.0);
        assert_within(set.samples[2], 1.0, 0.0);
        assert_int_equal(set.records[0].machine[0], 'M');
        record_set_release(&set);
    }
}

static void test_record_read_numbers_are_those_of_strtod(void **state)
{
    (void)state;
    static const char *const numbers[] = {"0.1",
                                          "123456789012345",
                                          "1234567890123456789",
                                          "1e-22",
                                          "9.007199254740993e15",
                                          "1.7976931348623157e308",
                                          "5e-324",
                                          "2.2250738585072011e-308",
                                          "0.000103103",
                                          "8.41e21",
                                          "1e23",
                                          "0.30000000000000004"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char line[256];
        struct record_set set = {0};
        struct error error;
        snprintf(line, sizeof line,
                 "{\"schema\":1,\"commit\":\"c\",\"machine\":\"m\",\"problem\":\"p\","
                 "\"implementation\":\"i\",\"verdict\":\"pass\",\"gflops\":%s}",
                 numbers[i]);
        assert_status(record_set_add_line(&set, line, strlen(line), "f", 1, &error), STATUS_OK);
        assert_within(set.records[0].gflops, strtod(numbers[i], NULL), 0.0);
        record_set_release(&set);
    }
}

/* Every prefix of a record is torn, and none of them is taken for one. */
static void test_record_read_every_prefix_of_a_record_is_refused(void **state)
{
    (void)state;
    json_t *o = make(1, 3);
    char *text = json_dumps(o, JSON_COMPACT);
    const size_t n = strlen(text);
    for (size_t i = 1; i < n; i++) {
        struct record_set set = {0};
        struct error error;
        assert_status(record_set_add_line(&set, text, i, "f", 1, &error), STATUS_BAD_INPUT);
        assert_int_equal(set.count, 0);
        assert_int_equal(set.sample_count, 0);
        record_set_release(&set);
    }
    free(text);
    json_decref(o);
}

static void test_record_read_audit_line_gives_a_record_for_each_rule(void **state)
{
    (void)state;
    static const char line[] =
        "{\"problem\":\"p\",\"fill\":\"conditioned\",\"mutant\":\"no-convolution\","
        "\"outcome\":{\"derived\":\"killed\",\"1e-2\":\"PASSES\"},\"nmse\":0.5}";
    struct record_set set = {0};
    struct error error;
    assert_status(record_set_add_line(&set, line, strlen(line), "f", 1, &error), STATUS_OK);
    assert_int_equal(set.count, 2);
    assert_string_equal(set.records[1].rule, "1e-2");
    assert_string_equal(set.records[1].outcome, "PASSES");
    record_set_release(&set);
}

static void test_record_read_missing_file_is_an_error(void **state)
{
    (void)state;
    struct record_set set = {0};
    struct error error;
    assert_status(record_set_read(&set, "/nonexistent.jsonl", &error), STATUS_BAD_INPUT);
    record_set_release(&set);
}

static void test_provenance_other_file_is_refused(void **state)
{
    (void)state;
    struct provenance p;
    struct error error;
    assert_status(provenance_of("/bin/sh", &p, &error), STATUS_BAD_INPUT);
    assert_status(provenance_of("/nonexistent", &p, &error), STATUS_BAD_INPUT);
    assert_status(provenance_of("/dev/null", &p, &error), STATUS_BAD_INPUT);
    assert_status(provenance_of(NULL, &p, &error), STATUS_OK);
    assert_int_equal(strlen(p.binary), 16);
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_record_append_then_read_gives_the_same),
        IN_FOLDER(test_record_append_two_writers_keep_every_line_whole),
        IN_FOLDER(test_record_append_killed_writers_spoil_no_other_line),
        IN_FOLDER(test_record_append_full_disk_leaves_the_file_as_it_was),
        IN_FOLDER(test_record_append_no_folder_is_refused),
        IN_FOLDER(test_record_read_torn_and_foreign_lines_are_skipped),
        IN_FOLDER(test_record_read_repeated_line_counts_once),
        cmocka_unit_test(test_record_read_any_spelling_of_json_is_understood),
        cmocka_unit_test(test_record_read_numbers_are_those_of_strtod),
        cmocka_unit_test(test_record_read_every_prefix_of_a_record_is_refused),
        cmocka_unit_test(test_record_read_audit_line_gives_a_record_for_each_rule),
        cmocka_unit_test(test_record_read_missing_file_is_an_error),
        cmocka_unit_test(test_provenance_other_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
