/* Case files: what is written comes back, whole or not at all. */
#include "tests/case_file_fixture.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>

#include "harness/new_file.h"

static const struct case_provenance provenance = {.descriptor = "mb3ic2ih3iw2oc4kh2kw3sh2sw1g2",
                                                  .fill = "exact",
                                                  .version = "0.1",
                                                  .libraries = "OpenBLAS 0.3.21",
                                                  .commit = "0123456789ab",
                                                  .has_seed = true,
                                                  .seed = UINT64_MAX - 5};

/* Values that show every byte: NaN, infinities, -0, subnormals, then distinct ones. */
static void fill_hard(float *values, int count)
{
    static const float special[] = {NAN,       INFINITY,          -INFINITY,      -0.0f,
                                    0x1p-149f, -0x1.fffffep-127f, 0x1.fffffep127f};
    for (int i = 0; i < count; i++)
        values[i] = i < 7 ? special[i] : (float)i / 3.0f;
}

/* Writes the small case in pieces of `step` images. */
static void write_small(const char *path, const struct problem *p, int64_t step,
                        enum case_expected_storage storage)
{
    float x[SMALL_X], w[SMALL_W], b[SMALL_C] = {1, -2, 3, -4}, c[SMALL_C] = {5, 6, 7, 8};
    double y[SMALL_Y];
    struct error error = {0};
    struct case_writer *writer;
    fill_hard(x, SMALL_X);
    fill_hard(w, SMALL_W);
    for (int i = 0; i < SMALL_Y; i++)
        y[i] = 1.0 / (i + 3);
    const struct params params = {.weight = w, .conv_bias = p->has_conv_bias ? c : NULL, .bias = b};
    assert_int_equal(case_writer_create(&writer, path, p, &provenance, storage, &error), STATUS_OK);
    assert_int_equal(case_writer_params(writer, &params, &error), STATUS_OK);
    for (int64_t i = 0; i < 3; i += step) {
        const int64_t count = 3 - i < step ? 3 - i : step;
        assert_int_equal(case_writer_input(writer, x + 12 * i, count, &error), STATUS_OK);
        if (storage != CASE_EXPECTED_NONE)
            assert_int_equal(case_writer_expected(writer, y + 96 * i, count, &error), STATUS_OK);
    }
    assert_int_equal(case_writer_commit(writer, &error), STATUS_OK);
    case_writer_free(writer);
}

static void assert_same_bytes(const char *a, const char *b)
{
    char command[600];
    snprintf(command, sizeof command, "cmp '%s' '%s'", a, b);
    assert_int_equal(system(command), 0);
}

static void test_case_file_written_comes_back(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_file *file;
    float x[SMALL_X], w[SMALL_W], b[SMALL_C], c[SMALL_C], hard[SMALL_X];
    double y[SMALL_Y];
    fill_hard(hard, SMALL_X);
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_F64);
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    assert_true(problem_equal(case_file_problem(file), &p));
    assert_memory_equal(case_file_provenance(file), &provenance, sizeof provenance);
    assert_true(case_file_expected(file)->present);
    assert_string_equal(case_file_expected(file)->type, "float64");
    assert_true(case_file_expected(file)->roundoff == 0x1p-53);
    assert_true(case_file_expected(file)->quantum == 0x1p-1074); /* its half is no double */

    assert_int_equal(case_file_read_params(file, w, c, b, &error), STATUS_OK);
    assert_memory_equal(w, hard, sizeof w);
    assert_memory_equal(b, ((float[]){1, -2, 3, -4}), sizeof b);
    assert_memory_equal(c, ((float[]){5, 6, 7, 8}), sizeof c);
    assert_int_equal(case_file_read_input(file, 0, 3, x, &error), STATUS_OK);
    assert_memory_equal(x, hard, sizeof x);
    assert_int_equal(case_file_read_expected(file, 0, 3, y, &error), STATUS_OK);
    for (int i = 0; i < SMALL_Y; i++)
        assert_true(y[i] == 1.0 / (i + 3));
    case_file_free(file);
}

static void test_case_file_images_come_in_any_order_and_number(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_file *file;
    float x[SMALL_X], hard[SMALL_X];
    double y[SMALL_Y];
    fill_hard(hard, SMALL_X);
    write_small(in_folder("a.h5"), &p, 2, CASE_EXPECTED_F64);
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_read_input(file, 2, 1, x, &error), STATUS_OK);
    assert_memory_equal(x, hard + 24, 12 * sizeof *x);
    assert_int_equal(case_file_read_input(file, 1, 2, x, &error), STATUS_OK);
    assert_memory_equal(x, hard + 12, 24 * sizeof *x);
    x[0] = 77;
    assert_int_equal(case_file_read_input(file, 3, 0, x, &error), STATUS_OK);
    assert_true(x[0] == 77);
    assert_int_equal(case_file_read_expected(file, 1, 1, y, &error), STATUS_OK);
    for (int i = 0; i < 96; i++)
        assert_true(y[i] == 1.0 / (96 + i + 3));
    case_file_free(file);
}

static void test_case_file_expected_f32_is_rounded_to_nearest(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_file *file;
    double y[SMALL_Y];
    write_small(in_folder("a.h5"), &p, 3, CASE_EXPECTED_F32);
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    assert_string_equal(case_file_expected(file)->type, "float32");
    assert_true(case_file_expected(file)->roundoff == 0x1p-24);
    assert_true(case_file_expected(file)->quantum == 0x1p-150);
    assert_int_equal(case_file_read_expected(file, 0, 3, y, &error), STATUS_OK);
    for (int i = 0; i < SMALL_Y; i++)
        assert_true(y[i] == (double)(float)(1.0 / (i + 3)));
    case_file_free(file);
}

static void test_case_file_without_optional_parts_has_none(void **state)
{
    (void)state;
    struct problem p = small_problem();
    struct error error = {0};
    struct case_file *file;
    float w[SMALL_W], b = 0;
    p.has_conv_bias = false;
    p.bias_count = 1;
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_NONE);
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    assert_true(problem_equal(case_file_problem(file), &p));
    assert_false(case_file_expected(file)->present);
    assert_int_equal(case_file_read_params(file, w, NULL, &b, &error), STATUS_OK);
    assert_true(b == 1);
    case_file_free(file);
}

static void test_case_file_batch_of_zero_comes_back(void **state)
{
    (void)state;
    struct problem p = small_problem();
    struct error error = {0};
    struct case_writer *writer;
    struct case_file *file;
    int checked = 0;
    const struct params params = {good_values(), good_values(), good_values()};
    p.batch = 0;
    assert_int_equal(
        case_writer_create(&writer, in_folder("zero.h5"), &p, NULL, CASE_EXPECTED_F32, &error),
        STATUS_OK);
    assert_int_equal(case_writer_params(writer, &params, &error), STATUS_OK);
    assert_int_equal(case_writer_commit(writer, &error), STATUS_OK);
    case_writer_free(writer);
    assert_int_equal(case_file_open(&file, in_folder("zero.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_problem(file)->batch, 0);
    assert_string_equal(case_file_provenance(file)->descriptor, "");
    assert_false(case_file_provenance(file)->has_seed);
    assert_int_equal(case_file_check_sums(file, &checked, &error), STATUS_OK);
    assert_int_equal(checked, 5);
    case_file_free(file);
}

static void test_case_file_same_content_gives_same_bytes(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_F32);
    write_small(in_folder("b.h5"), &p, 3, CASE_EXPECTED_F32);
    assert_same_bytes(in_folder("a.h5"), in_folder("b.h5"));
}

/* ---- checksums ------------------------------------------------------------------------------- */

static void test_case_file_checksum_is_zlib_crc32_of_the_elements(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    float x[SMALL_X];
    uint32_t stored = 0;
    fill_hard(x, SMALL_X);
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_F64);
    const hid_t file = H5Fopen(in_folder("a.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    const hid_t attribute = H5Aopen_by_name(file, "input", "crc32", H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Aread(attribute, H5T_NATIVE_UINT32, &stored) >= 0);
    H5Aclose(attribute);
    H5Fclose(file);
    assert_int_equal(stored, crc32(0, (const Bytef *)x, sizeof x));
}

/* Flips one bit of the first element of `name` in the file's bytes. */
static void damage(const char *path, const char *name)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    const haddr_t offset = H5Dget_offset(dataset);
    H5Dclose(dataset);
    H5Fclose(file);
    const int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void test_case_file_damaged_tensor_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {"/input", "/params/conv_transpose.weight",
                                        "/params/conv_transpose.bias", "/params/bias", "/expected"};
    const struct problem p = small_problem();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct error error = {0};
        struct case_file *file;
        char begin[300];
        int checked = 0;
        write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_F64);
        assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
        assert_int_equal(case_file_check_sums(file, &checked, &error), STATUS_OK);
        assert_int_equal(checked, 5);
        case_file_free(file);
        damage(in_folder("a.h5"), names[i]);
        assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
        assert_int_equal(case_file_check_sums(file, NULL, &error), STATUS_BAD_INPUT);
        snprintf(begin, sizeof begin, "'%s': '%s' is damaged: its CRC-32 is ", in_folder("a.h5"),
                 names[i]);
        assert_memory_equal(error.message, begin, strlen(begin));
        case_file_free(file);
    }
}

static void test_case_file_without_checksums_passes_unchecked(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    int checked = -1;
    H5Fclose(create_good(in_folder("a.h5")));
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_check_sums(file, &checked, &error), STATUS_OK);
    assert_int_equal(checked, 0);
    case_file_free(file);
}

/* ---- whole or not at all --------------------------------------------------------------------- */

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

/* ---- output files ---------------------------------------------------------------------------- */

static void test_output_file_written_comes_back(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct output_writer *writer;
    struct output_file *file;
    float y[SMALL_Y], found[SMALL_Y];
    fill_hard(y, SMALL_Y);
    assert_int_equal(output_writer_create(&writer, in_folder("out.h5"), &p, &error), STATUS_OK);
    assert_int_equal(output_writer_append(writer, y, 1, &error), STATUS_OK);
    assert_int_equal(output_writer_append(writer, y + 96, 2, &error), STATUS_OK);
    assert_int_equal(output_writer_commit(writer, &error), STATUS_OK);
    output_writer_free(writer);
    assert_int_equal(output_file_open(&file, in_folder("out.h5"), &p, &error), STATUS_OK);
    assert_int_equal(output_file_read(file, 0, 3, found, &error), STATUS_OK);
    assert_memory_equal(found, y, sizeof y);
    assert_int_equal(output_file_read(file, 2, 1, found, &error), STATUS_OK);
    assert_memory_equal(found, y + 192, 96 * sizeof *y);
    output_file_free(file);
}

static void test_output_file_of_another_shape_is_refused(void **state)
{
    (void)state;
    struct problem p = small_problem();
    struct error error = {0};
    struct output_writer *writer;
    struct output_file *file;
    assert_int_equal(output_writer_create(&writer, in_folder("out.h5"), &p, &error), STATUS_OK);
    assert_int_equal(output_writer_append(writer, good_values(), 3, &error), STATUS_OK);
    assert_int_equal(output_writer_commit(writer, &error), STATUS_OK);
    output_writer_free(writer);
    p.output_padding_h = 1;
    assert_int_equal(output_file_open(&file, in_folder("out.h5"), &p, &error), STATUS_BAD_INPUT);
    assert_null(file);
    assert_non_null(
        strstr(error.message, "'/output' has shape [3, 4, 6, 4]: it must be [3, 4, 7, 4]"));
    H5Fclose(create_good(in_folder("out.h5")));
    assert_int_equal(output_file_open(&file, in_folder("out.h5"), &p, &error), STATUS_BAD_INPUT);
    assert_non_null(strstr(error.message, "dataset '/output' is missing"));
}

/* ---- more than 2^31 elements ------------------------------------------------------------------
 */

/* A sparse input of 2^31 + 2^20 elements: the file claims its length and holds two images. */
static void test_case_file_beyond_2_to_31_elements_is_indexed_right(void **state)
{
    (void)state;
    const hsize_t shape[] = {2049, 2, 512, 1024};
    const hsize_t start[] = {2048, 0, 0, 0}, size[] = {1, 2, 512, 1024};
    const hsize_t image = 2 * 512 * 1024;
    struct error error = {0};
    struct case_file *opened;
    float *x = calloc(image, sizeof *x);
    assert_non_null(x);
    for (hsize_t i = 0; i < image; i++)
        x[i] = (float)i;

    const hid_t file = create_good(in_folder("big.h5"));
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    H5Ldelete(file, "expected", H5P_DEFAULT);
    put_dataset(file, "input", H5T_IEEE_F32LE, 0, 4, shape, list, NULL);
    const hid_t dataset = H5Dopen2(file, "input", H5P_DEFAULT);
    const hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &image, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, x) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Pclose(list);
    H5Fclose(file);

    assert_int_equal(case_file_open(&opened, in_folder("big.h5"), &error), STATUS_OK);
    assert_int_equal(problem_input_count(case_file_problem(opened)), 2049 * (int64_t)image);
    memset(x, 0, image * sizeof *x);
    assert_int_equal(case_file_read_input(opened, 2048, 1, x, &error), STATUS_OK);
    for (hsize_t i = 0; i < image; i++)
        assert_true(x[i] == (float)i);
    case_file_free(opened);
    free(x);
    unlink(in_folder("big.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case_file_written_comes_back),
        cmocka_unit_test(test_case_file_images_come_in_any_order_and_number),
        cmocka_unit_test(test_case_file_expected_f32_is_rounded_to_nearest),
        cmocka_unit_test(test_case_file_without_optional_parts_has_none),
        cmocka_unit_test(test_case_file_batch_of_zero_comes_back),
        cmocka_unit_test(test_case_file_same_content_gives_same_bytes),
        cmocka_unit_test(test_case_file_checksum_is_zlib_crc32_of_the_elements),
        cmocka_unit_test(test_case_file_damaged_tensor_is_named),
        cmocka_unit_test(test_case_file_without_checksums_passes_unchecked),
        cmocka_unit_test(test_case_writer_not_committed_leaves_the_old_file),
        cmocka_unit_test(test_case_writer_over_the_file_limit_is_refused_at_once),
        cmocka_unit_test(test_case_writer_failing_midway_keeps_the_old_file),
        cmocka_unit_test(test_case_writer_interrupted_leaves_no_temporary),
        cmocka_unit_test(test_case_writer_bad_places_are_refused),
        cmocka_unit_test(test_case_writer_through_a_symbolic_link_writes_its_target),
        cmocka_unit_test(test_case_writer_file_has_the_usual_mode),
        cmocka_unit_test(test_output_file_written_comes_back),
        cmocka_unit_test(test_output_file_of_another_shape_is_refused),
        cmocka_unit_test(test_case_file_beyond_2_to_31_elements_is_indexed_right),
    };
    return cmocka_run_group_tests_name("case files", tests, fixture_setup, fixture_teardown);
}
