/* Case files: what is written comes back, whole or not at all. */
#include "tests/case_file_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <zlib.h>

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

/* ---- the child that reads -------------------------------------------------------------------- */

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void test_case_file_opened_often_leaves_nothing(void **state)
{
    (void)state;
    struct error error = {0};
    H5Fclose(create_good(in_folder("a.h5")));
    const int before = open_descriptors();
    for (int i = 0; i < 100; i++) {
        struct case_file *good, *bad;
        assert_int_equal(case_file_open(&good, in_folder("a.h5"), &error), STATUS_OK);
        assert_int_equal(case_file_open(&bad, "/dev/null", &error), STATUS_BAD_INPUT);
        case_file_free(good);
        case_file_free(bad);
    }
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    assert_int_equal(errno, ECHILD);
}

static void test_case_file_whose_reader_dies_says_so(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    float x[SMALL_X];
    long child = 0;
    H5Fclose(create_good(in_folder("a.h5")));
    assert_int_equal(case_file_open(&file, in_folder("a.h5"), &error), STATUS_OK);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(path, "r");
    if (!children) /* a kernel without it */
        skip();
    assert_int_equal(fscanf(children, "%ld", &child), 1);
    fclose(children);
    kill((pid_t)child, SIGSEGV);
    assert_int_equal(case_file_read_input(file, 0, 3, x, &error), STATUS_BAD_INPUT);
    assert_non_null(strstr(error.message, "a.h5': damaged: the HDF5 library crashes on it"));
    assert_int_equal(case_file_check_sums(file, NULL, &error), STATUS_BAD_INPUT);
    case_file_free(file);
}

static void test_case_files_are_read_side_by_side(void **state)
{
    (void)state;
    const struct problem p = small_problem();
    struct error error = {0};
    struct case_file *a, *b;
    float x[SMALL_X], hard[SMALL_X];
    fill_hard(hard, SMALL_X);
    write_small(in_folder("a.h5"), &p, 1, CASE_EXPECTED_NONE);
    H5Fclose(create_good(in_folder("b.h5")));
    assert_int_equal(case_file_open(&a, in_folder("a.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_open(&b, in_folder("b.h5"), &error), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(case_file_read_input(a, i, 1, x, &error), STATUS_OK);
        assert_memory_equal(x, hard + 12 * i, 12 * sizeof *x);
        assert_int_equal(case_file_read_input(b, i, 1, x, &error), STATUS_OK);
        assert_memory_equal(x, good_values() + 12 * i, 12 * sizeof *x);
    }
    case_file_free(a);
    assert_int_equal(case_file_read_input(b, 0, 1, x, &error), STATUS_OK);
    case_file_free(b);
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
        cmocka_unit_test(test_case_file_opened_often_leaves_nothing),
        cmocka_unit_test(test_case_file_whose_reader_dies_says_so),
        cmocka_unit_test(test_case_files_are_read_side_by_side),
        cmocka_unit_test(test_output_file_written_comes_back),
        cmocka_unit_test(test_output_file_of_another_shape_is_refused),
        cmocka_unit_test(test_case_file_beyond_2_to_31_elements_is_indexed_right),
    };
    return cmocka_run_group_tests_name("case files", tests, fixture_setup, fixture_teardown);
}
