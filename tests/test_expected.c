/* Case files with /expected, and `check`: right values pass, one wrong value is named. */
#include <unistd.h>

#include "harness/arena.h"
#include "harness/case_file.h"
#include "harness/command.h"
#include "harness/trial.h"
#include "ref/oracle.h"
#include "tests/model_fixture.h"

#define DESCRIPTOR "mb2ic4ih5oc6kh3sh2ph1oph1"

static char folder[] = "/tmp/assay-test-XXXXXX";

static void path_of(const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"case.h5", "output.h5"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(names[i], path);
        unlink(path);
    }
    return rmdir(folder);
}

static struct model_fixture fixture_with_expected(void)
{
    struct model_fixture f = fixture_make(DESCRIPTOR, "conditioned", 1);
    struct oracle *oracle;
    struct error error;
    assert_status(oracle_create(&oracle, &f.problem, &f.params, &error), STATUS_OK);
    assert_status(oracle_expected(oracle, f.x, 0, f.problem.batch, f.expected, &error), STATUS_OK);
    oracle_free(oracle);
    return f;
}

static void write_case(const struct model_fixture *f, enum case_expected_storage storage)
{
    struct case_writer *w;
    struct error error;
    char path[128];
    path_of("case.h5", path);
    assert_status(case_writer_create(&w, path, &f->problem, NULL, storage, &error), STATUS_OK);
    assert_status(case_writer_params(w, &f->params, &error), STATUS_OK);
    assert_status(case_writer_input(w, f->x, f->problem.batch, &error), STATUS_OK);
    if (storage != CASE_EXPECTED_NONE)
        assert_status(case_writer_expected(w, f->expected, f->problem.batch, &error), STATUS_OK);
    assert_status(case_writer_commit(w, &error), STATUS_OK);
    case_writer_free(w);
}

static enum status checked(struct error *error)
{
    struct case_source source;
    struct arena arena;
    const struct fill *fill;
    char path[128];
    path_of("case.h5", path);
    assert_status(fill_find("conditioned", &fill, error), STATUS_OK);
    assert_status(case_source_open(&source, path, fill, 1, error), STATUS_OK);
    assert_status(arena_create(&arena, &source.problem, error), STATUS_OK);
    assert_status(case_source_load(&source, &arena, error), STATUS_OK);
    const enum status status = expected_check(&source, &arena, error);
    arena_release(&arena);
    case_source_release(&source);
    return status;
}

static void test_expected_of_the_oracle_is_accepted_in_either_storage(void **state)
{
    (void)state;
    struct model_fixture f = fixture_with_expected();
    struct error error;
    write_case(&f, CASE_EXPECTED_F64);
    assert_status(checked(&error), STATUS_OK);
    write_case(&f, CASE_EXPECTED_F32);
    assert_status(checked(&error), STATUS_OK);
    write_case(&f, CASE_EXPECTED_NONE);
    assert_status(checked(&error), STATUS_OK);
    fixture_free(&f);
}

static void wrong_value(double value, const char *words)
{
    struct model_fixture f = fixture_with_expected();
    struct error error;
    const int64_t rows = problem_output_h(&f.problem), columns = problem_output_w(&f.problem);
    f.expected[((1 * 6 + 2) * rows + 3) * columns + 4] = value;
    write_case(&f, CASE_EXPECTED_F64);
    assert_status(checked(&error), STATUS_FAILED);
    assert_non_null(strstr(error.message, "(n 1, c 2, h 3, w 4)"));
    assert_non_null(strstr(error.message, words));
    fixture_free(&f);
}

static void test_expected_with_one_wrong_value_is_named(void **state)
{
    (void)state;
    wrong_value(0.5, "differs from the oracle");
    wrong_value(NAN, "it holds nan");
}

/* A difference that fp32 storage would hide is seen in fp64 storage. */
static void test_expected_in_fp64_is_held_to_fp64(void **state)
{
    (void)state;
    struct model_fixture f = fixture_with_expected();
    struct error error;
    f.expected[0] += 1e-9;
    write_case(&f, CASE_EXPECTED_F64);
    assert_status(checked(&error), STATUS_FAILED);
    write_case(&f, CASE_EXPECTED_F32);
    assert_status(checked(&error), STATUS_OK);
    fixture_free(&f);
}

static int run_check(struct model_fixture *f)
{
    struct output_writer *w;
    struct error error;
    char case_path[128], output_path[128];
    path_of("case.h5", case_path);
    path_of("output.h5", output_path);
    assert_status(output_writer_create(&w, output_path, &f->problem, &error), STATUS_OK);
    assert_status(output_writer_append(w, f->y, f->problem.batch, &error), STATUS_OK);
    assert_status(output_writer_commit(w, &error), STATUS_OK);
    output_writer_free(w);
    char *argv[] = {case_path, output_path};
    return cmd_check(2, argv);
}

static void test_check_passes_right_and_fails_wrong_outputs(void **state)
{
    (void)state;
    struct model_fixture f = fixture_with_expected();
    write_case(&f, CASE_EXPECTED_NONE);
    for (int64_t i = 0; i < problem_output_count(&f.problem); i++)
        f.y[i] = (float)f.expected[i];
    assert_int_equal(run_check(&f), STATUS_OK);
    f.y[77] = NAN;
    assert_int_equal(run_check(&f), STATUS_FAILED);
    f.y[77] = (float)f.expected[77] + 1e-3f;
    assert_int_equal(run_check(&f), STATUS_FAILED);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected_of_the_oracle_is_accepted_in_either_storage),
        cmocka_unit_test(test_expected_with_one_wrong_value_is_named),
        cmocka_unit_test(test_expected_in_fp64_is_held_to_fp64),
        cmocka_unit_test(test_check_passes_right_and_fails_wrong_outputs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
