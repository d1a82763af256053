/* Case files are written whole or not at all. */
#include "tests/case_file_fixture.h"

#include <signal.h>
#include <sys/stat.h>

#include "harness/new_file.h"

static void test_case_writer_not_committed_leaves_the_old_file(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_writer *writer;
    float x[SMALL_X] = {0};
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_NONE);
    write_small(in_folder("b.h5"), &p, 1, CASE_EXPECTED_NONE);
    const int files = files_in_folder();
    assert_int_equal(
        case_writer_create(&writer, in_folder("a.h5"), &p, NULL, CASE_EXPECTED_F64, &error),
        STATUS_OK);
    assert_int_equal(case_writer_input(writer, x, 2, &error), STATUS_OK);
    assert_same_bytes(in_folder("a.h5"), in_folder("b.h5"));
    case_writer_free(writer);
    assert_same_bytes(in_folder("a.h5"), in_folder("b.h5"));
    assert_int_equal(files_in_folder(), files);
}

/* Runs `body` with files limited to `bytes`, and no signal for what goes over. */
static void with_file_limit(rlim_t bytes, void (*body)(void))
{
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = bytes;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    body();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
}

static struct error limited_error;
static enum status limited_status;

static void create_limited(void)
{
    const struct problem p = small_problem();
    struct case_writer *writer;
    limited_status = case_writer_create(&writer, in_folder("limited.h5"), &p, NULL,
                                        CASE_EXPECTED_F64, &limited_error);
    case_writer_free(writer);
}

static void test_case_writer_over_the_file_limit_is_refused_at_once(void **state)
{
    (void)state;
    const rlim_t limits[] = {0, 1, 50000};
    const int files = files_in_folder();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        with_file_limit(limits[i], create_limited);
        assert_int_equal(limited_status, STATUS_ENVIRONMENT);
        char reason[64];
        snprintf(reason, sizeof reason, "limited to %d (ulimit -f)", (int)limits[i]);
        assert_non_null(strstr(limited_error.message, reason));
        assert_int_equal(files_in_folder(), files);
    }
}

static struct case_writer *limited_writer;

static void write_params_limited(void)
{
    const struct params params = {good_values(), good_values(), good_values()};
    limited_status = case_writer_params(limited_writer, &params, &limited_error);
}

static void write_input_limited(void)
{
    limited_status = case_writer_input(limited_writer, good_values(), 3, &limited_error);
}

/* The disk fills up under a writer that could not reserve its space. */
static void test_case_writer_failing_midway_keeps_the_old_file(void **state)
{
    (void)state;
    void (*const bodies[])(void) = {write_params_limited, write_input_limited};
    const struct problem p = small_problem();
    struct error error = {0};
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_NONE);
    write_small(in_folder("b.h5"), &p, 1, CASE_EXPECTED_NONE);
    const int files = files_in_folder();
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(case_writer_create(&limited_writer, in_folder("a.h5"), &p, NULL,
                                            CASE_EXPECTED_NONE, &error),
                         STATUS_OK);
        memset(&limited_error, 0, sizeof limited_error);
        with_file_limit(100, bodies[i]);
        assert_int_equal(limited_status, STATUS_ENVIRONMENT);
        assert_non_null(strstr(limited_error.message, "cannot be written: File too large"));
        assert_null(strchr(limited_error.message, '\n'));
        case_writer_free(limited_writer);
        assert_same_bytes(in_folder("a.h5"), in_folder("b.h5"));
        assert_int_equal(files_in_folder(), files);
    }
}

static void test_case_writer_interrupted_leaves_no_temporary(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_writer *writer;
    const int files = files_in_folder();
    assert_int_equal(
        case_writer_create(&writer, in_folder("new.h5"), &p, NULL, CASE_EXPECTED_NONE, &error),
        STATUS_OK);
    assert_int_equal(files_in_folder(), files + 1);
    new_file_remove_temporaries();
    assert_int_equal(files_in_folder(), files);
    case_writer_free(writer);
    assert_int_equal(files_in_folder(), files);
}

static void test_case_writer_bad_places_are_refused(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    const struct {
        const char *path, *reason;
    } places[] = {
        {in_folder("none/a.h5"), "No such file or directory"},
        {fixture_folder, "a directory"},
        {"/dev/null", "not a regular file"},
        {"/proc/a.h5", "cannot be created"},
        {"", "No such file or directory"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct error error = {0};
        struct case_writer *writer = (void *)1;
        assert_int_equal(
            case_writer_create(&writer, places[i].path, &p, NULL, CASE_EXPECTED_NONE, &error),
            STATUS_BAD_INPUT);
        assert_null(writer);
        assert_non_null(strstr(error.message, places[i].reason));
        assert_null(strchr(error.message, '\n'));
    }
}

static void test_case_writer_through_a_symbolic_link_writes_its_target(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct stat info;
    write_small(in_folder("target.h5"), &p, 1, CASE_EXPECTED_NONE);
    assert_int_equal(symlink("target.h5", in_folder("link.h5")), 0);
    write_small(in_folder("link.h5"), &p, 1, CASE_EXPECTED_F64);
    assert_int_equal(lstat(in_folder("link.h5"), &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    write_small(in_folder("same.h5"), &p, 1, CASE_EXPECTED_F64);
    assert_same_bytes(in_folder("target.h5"), in_folder("same.h5"));
}

static void test_case_writer_file_has_the_usual_mode(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct stat info;
    const mode_t mask = umask(027);
    write_small(in_folder("mode.h5"), &p, 1, CASE_EXPECTED_NONE);
    umask(mask);
    assert_int_equal(stat(in_folder("mode.h5"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
}

/* Tensors of all sizes around those at which HDF5 places them differently (page alignment). */
static void test_case_writer_tensors_of_every_size_come_back(void **state)
{
    (void)state;
    const int64_t channels[] = {1, 3, 31, 32, 63, 64, 65, 130};
    for (size_t i = 0; i < 64; i++) {
        struct problem p = small_problem();
        struct error error = {0};
        struct case_writer *writer;
        struct case_file *file;
        p.in_channels = channels[i % 8] * p.groups;
        p.out_channels = p.bias_count = channels[i / 8] * p.groups;
        const size_t x = (size_t)problem_input_count(&p), w = (size_t)problem_weight_count(&p),
                     c = (size_t)p.out_channels, y = (size_t)problem_output_count(&p);
        float *floats = malloc(2 * (x + w + 2 * c) * sizeof *floats);
        double *doubles = malloc(2 * y * sizeof *doubles);
        assert_true(floats && doubles);
        for (size_t k = 0; k < x + w + 2 * c; k++)
            floats[k] = (float)k;
        for (size_t k = 0; k < y; k++)
            doubles[k] = (double)k + 0.5;
        const struct params params = {floats + x, floats + x + w, floats + x + w + c};
        assert_int_equal(case_writer_create(&writer, in_folder("sizes.h5"), &p, &provenance,
                                            CASE_EXPECTED_F64, &error),
                         STATUS_OK);
        assert_int_equal(case_writer_params(writer, &params, &error), STATUS_OK);
        assert_int_equal(case_writer_input(writer, floats, p.batch, &error), STATUS_OK);
        assert_int_equal(case_writer_expected(writer, doubles, p.batch, &error), STATUS_OK);
        assert_int_equal(case_writer_commit(writer, &error), STATUS_OK);
        case_writer_free(writer);

        int checked = 0;
        float *found = floats + x + w + 2 * c;
        assert_int_equal(case_file_open(&file, in_folder("sizes.h5"), &error), STATUS_OK);
        assert_true(problem_equal(case_file_problem(file), &p));
        assert_int_equal(case_file_check_sums(file, &checked, &error), STATUS_OK);
        assert_int_equal(checked, 5);
        assert_int_equal(case_file_read_input(file, 0, p.batch, found, &error), STATUS_OK);
        assert_int_equal(
            case_file_read_params(file, found + x, found + x + w, found + x + w + c, &error),
            STATUS_OK);
        assert_int_equal(case_file_read_expected(file, 0, p.batch, doubles + y, &error), STATUS_OK);
        assert_memory_equal(found, floats, (x + w + 2 * c) * sizeof *floats);
        assert_memory_equal(doubles + y, doubles, y * sizeof *doubles);
        case_file_free(file);
        free(doubles);
        free(floats);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case_writer_tensors_of_every_size_come_back),
        cmocka_unit_test(test_case_writer_not_committed_leaves_the_old_file),
        cmocka_unit_test(test_case_writer_over_the_file_limit_is_refused_at_once),
        cmocka_unit_test(test_case_writer_failing_midway_keeps_the_old_file),
        cmocka_unit_test(test_case_writer_interrupted_leaves_no_temporary),
        cmocka_unit_test(test_case_writer_bad_places_are_refused),
        cmocka_unit_test(test_case_writer_through_a_symbolic_link_writes_its_target),
        cmocka_unit_test(test_case_writer_file_has_the_usual_mode),
    };
    return cmocka_run_group_tests_name("case writer", tests, fixture_setup, fixture_teardown);
}
