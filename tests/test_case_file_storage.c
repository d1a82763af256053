/* Case files: storage that claims more than it has, or leads out of the file, is refused; storage
 * that is whole is read. */
#include "tests/case_file_fixture.h"

/* ---- storage that is not what it says ---------------------------------------------------------
 */

static void no_input(hid_t f)
{
    H5Ldelete(f, "input", H5P_DEFAULT);
}

static void no_params(hid_t f)
{
    H5Ldelete(f, "params", H5P_DEFAULT);
}

/* 2^58 elements. */
#define CLAIM ((hsize_t)1 << 15), ((hsize_t)1 << 15), ((hsize_t)1 << 14), ((hsize_t)1 << 14)

static void claims_2_to_60_contiguous(hid_t f)
{
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, (hsize_t[]){CLAIM}, 0, NULL);
}
static void claims_2_to_60_chunked(hid_t f)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, (hsize_t[]){1, 1, 64, 64});
    H5Pset_deflate(list, 9);
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, (hsize_t[]){CLAIM}, list, NULL);
    H5Pclose(list);
}
static void large_chunk_of_small_dataset(hid_t f)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, (hsize_t[]){3, 2, 1 << 14, 1 << 14});
    put_dataset(f, "input", H5T_STD_I8LE, 0, 4,
                (hsize_t[]){3, 2, (hsize_t)1 << 14, (hsize_t)1 << 14}, list, NULL);
    H5Pclose(list);
}
static void never_written(hid_t f)
{
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, shape_x, 0, NULL);
}
static void chunks_missing(hid_t f)
{
    const float values[12] = {0};
    const hsize_t image[] = {1, 2, 3, 2}, start[] = {1, 0, 0, 0}, points = 12;
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, image);
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, shape_x, list, NULL);
    const hid_t dataset = H5Dopen2(f, "input", H5P_DEFAULT), space = H5Dget_space(dataset),
                memory = H5Screate_simple(1, &points, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, image, NULL);
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, values);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Pclose(list);
}
static void unknown_filter(hid_t f)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, shape_x);
    H5Pset_filter(list, 32000, H5Z_FLAG_OPTIONAL, 0, NULL);
    put_dataset(f, "input", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, shape_x, list, good_values());
    H5Pclose(list);
}
static void external_storage(hid_t f)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(list, "/etc/passwd", 0, H5F_UNLIMITED);
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, shape_x, list, NULL);
    H5Pclose(list);
}
static void virtual_dataset(hid_t f)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(4, shape_x, NULL);
    H5Pset_virtual(list, space, "other.h5", "input", space);
    put_dataset(f, "input", H5T_IEEE_F32LE, 0, 4, shape_x, list, NULL);
    H5Sclose(space);
    H5Pclose(list);
}

static void link_loop(hid_t f)
{
    no_input(f);
    H5Lcreate_soft("/other", f, "input", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/input", f, "other", H5P_DEFAULT, H5P_DEFAULT);
}
static void params_link_loop(hid_t f)
{
    no_params(f);
    H5Lcreate_soft("/params", f, "params", H5P_DEFAULT, H5P_DEFAULT);
}
static void dangling_link(hid_t f)
{
    no_input(f);
    H5Lcreate_soft("/nowhere", f, "input", H5P_DEFAULT, H5P_DEFAULT);
}
static void external_link(hid_t f)
{
    no_input(f);
    H5Lcreate_external(in_folder("other.h5"), "/input", f, "input", H5P_DEFAULT, H5P_DEFAULT);
}
static void external_params(hid_t f)
{
    no_params(f);
    H5Lcreate_external(in_folder("other.h5"), "/params", f, "params", H5P_DEFAULT, H5P_DEFAULT);
}
static void soft_link_through_external(hid_t f)
{
    no_input(f);
    H5Lcreate_external(in_folder("other.h5"), "/", f, "out", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/out/input", f, "input", H5P_DEFAULT, H5P_DEFAULT);
}

static const struct bad_case bad_cases[] = {
    BAD(claims_2_to_60_contiguous,
        "'/input' claims 1152921504606846976 bytes, more than the file of ..."),
    BAD(claims_2_to_60_chunked,
        "'/input' claims 1152921504606846976 bytes, more than the file of ..."),
    BAD(large_chunk_of_small_dataset,
        "'/input' claims 1610612736 bytes, more than the file of ..."),
    BAD(never_written, "'/input' is not whole: 0 of its 144 bytes were written"),
    BAD(chunks_missing, "'/input' is not whole: 1 of its 3 chunks were written"),
    BAD(unknown_filter,
        "'/input' is stored with filter 32000 (): only gzip, shuffle and fletcher32 are read"),
    BAD(external_storage, "'/input' keeps its data in another file, which is never followed: copy "
                          "the data into the file"),
    BAD(virtual_dataset, "'/input' is a virtual dataset, which is never followed: copy the data "
                         "into the file"),
    BAD(link_loop,
        "'/input' is a soft link that leads nowhere, in circles, or out of the file (HDF5: ..."),
    BAD(params_link_loop,
        "'/params' is a soft link that leads nowhere, in circles, or out of the file (HDF5: ..."),
    BAD(dangling_link,
        "'/input' is a soft link that leads nowhere, in circles, or out of the file (HDF5: ..."),
    BAD(external_link, "'/input' is an external link, which is never followed: copy the data into "
                       "the file"),
    BAD(external_params, "'/params' is an external link, which is never followed: copy the data "
                         "into the file"),
    BAD(soft_link_through_external,
        "'/input' is a soft link that leads nowhere, in circles, or out of the file (HDF5: ..."),
};
#define BAD_CASES (sizeof bad_cases / sizeof *bad_cases)

/* The shape of /input in the file's bytes, patched to claim more than the file has. */
static void test_case_file_with_patched_shape_is_refused(void **state)
{
    (void)state;
    const uint64_t shape[] = {3, 2, 3, 2}, max[] = {3, 2, 3, 2};
    const struct {
        uint64_t shape[4];
        const char *reason;
    } claims[] = {
        {{CLAIM}, "'/input' claims 1152921504606846976 bytes, more than the file of ..."},
        {{3, 2, 3, 1 << 20}, "'/input' claims 75497472 bytes, more than the file of ..."},
        {{3, 2, 3, 3}, "'/input' is not whole: 144 of its 216 bytes were written"},
        {{UINT64_MAX, 1, 1, 1}, "'/input' ..."},
        {{1, 1, 1, INT64_MAX}, "'/input' ..."},
        {{(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1}, "'/input' ..."},
        {{(uint64_t)1 << 32, 0, (uint64_t)1 << 32, 1}, "'/params/conv_transpose.weight' has 2 ..."},
    };
    size_t size;
    H5Fclose(create_good(in_folder("good.h5")));
    char *good = read_bytes(in_folder("good.h5"), &size), *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        memcpy(bytes, good, size);
        char *at = memmem(bytes, size, shape, sizeof shape);
        assert_non_null(at);
        memcpy(at, claims[i].shape, sizeof shape);
        assert_memory_equal(at + sizeof shape, max, sizeof max); /* the largest shape */
        memcpy(at + sizeof shape, claims[i].shape, sizeof shape);
        write_bytes(in_folder("patched.h5"), bytes, size);
        assert_reason(refused(in_folder("patched.h5")), claims[i].reason);
    }
    free(bytes);
    free(good);
}

/* An object in the heap of variable-length strings whose length wraps around: HDF5 1.10.8 loops on
 * it for ever, later ones may refuse it. */
static void test_case_file_that_makes_hdf5_loop_is_refused(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    size_t size;
    const uint64_t length = (uint64_t)0 - 16;
    H5Fclose(create_good(in_folder("good.h5")));
    char *bytes = read_bytes(in_folder("good.h5"), &size);
    char *heap = memmem(bytes, size, "GCOL", 4);
    assert_non_null(heap);
    memcpy(heap + 16 + 8, &length, sizeof length); /* behind the heap's and the object's header */
    write_bytes(in_folder("loop.h5"), bytes, size);
    free(bytes);
    assert_int_equal(case_file_open(&file, in_folder("loop.h5"), &error), STATUS_BAD_INPUT);
    assert_null(file);
    assert_null(strchr(error.message, '\n'));
    /* And the process is as good as before. */
    assert_int_equal(case_file_open(&file, in_folder("good.h5"), &error), STATUS_OK);
    case_file_free(file);
}

/* ---- storage that is whole --------------------------------------------------------------------
 */

/* Opens the file and compares every tensor with the good values. */
static void assert_reads_good(const char *path)
{
    struct error error = {0};
    struct case_file *file;
    float x[SMALL_X], w[SMALL_W], b[SMALL_C], c[SMALL_C];
    double y[SMALL_Y];
    const enum status status = case_file_open(&file, path, &error);
    if (status != STATUS_OK)
        fail_msg("%s", error.message);
    const struct problem p = small_problem();
    assert_true(problem_equal(case_file_problem(file), &p));
    assert_int_equal(case_file_read_params(file, w, c, b, &error), STATUS_OK);
    assert_memory_equal(w, good_values(), sizeof w);
    assert_memory_equal(c, good_values(), sizeof c);
    assert_memory_equal(b, good_values(), sizeof b);
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(case_file_read_input(file, i, 1, x + 12 * i, &error), STATUS_OK);
    assert_memory_equal(x, good_values(), sizeof x);
    assert_int_equal(case_file_read_expected(file, 0, 3, y, &error), STATUS_OK);
    for (int i = 0; i < SMALL_Y; i++)
        assert_true(y[i] == (double)good_value(i));
    case_file_free(file);
}

static void test_case_file_as_h5py_writes_it_is_read(void **state)
{
    (void)state;
    H5Fclose(create_good(in_folder("good.h5")));
    assert_reads_good(in_folder("good.h5"));
}

static void test_case_file_with_other_objects_in_the_root_is_read(void **state)
{
    (void)state;
    const hid_t file = create_good(in_folder("good.h5"));
    put_float32(file, "notes", 1, shape_c);
    put_string(file, "author", "somebody", true);
    H5Fclose(file);
    assert_reads_good(in_folder("good.h5"));
}

static void test_case_file_chunked_and_compressed_is_read(void **state)
{
    (void)state;
    /* Chunks that cut every axis with a rest, by filter: none, gzip, shuffle + gzip + fletcher32.
     */
    for (int filters = 0; filters < 3; filters++) {
        const hid_t file = create_good(in_folder("chunked.h5"));
        const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(list, 4, (hsize_t[]){2, 1, 2, 2});
        if (filters == 2)
            H5Pset_shuffle(list);
        if (filters >= 1)
            H5Pset_deflate(list, 6);
        if (filters == 2)
            H5Pset_fletcher32(list);
        put_dataset(file, "input", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, shape_x, list,
                    good_values());
        put_dataset(file, "expected", H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, 4, shape_y, list,
                    good_values());
        H5Pclose(list);
        H5Fclose(file);
        /* Without a filter the padded chunks fit as well: the file is longer than what they claim.
         */
        assert_reads_good(in_folder("chunked.h5"));
    }
}

static void test_case_file_damaged_chunk_is_refused_when_read(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *opened;
    float x[SMALL_X];
    const hid_t file = create_good(in_folder("chunked.h5"));
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, shape_x);
    H5Pset_fletcher32(list);
    put_dataset(file, "input", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, shape_x, list, good_values());
    H5Pclose(list);
    H5Fclose(file);
    size_t size;
    char *bytes = read_bytes(in_folder("chunked.h5"), &size);
    char *last = NULL; /* the chunk is the last of the tensors' copies in the file */
    for (char *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), good_values(), 100)); at++)
        last = at;
    assert_non_null(last);
    last[50] ^= 1;
    write_bytes(in_folder("chunked.h5"), bytes, size);
    free(bytes);
    assert_int_equal(case_file_open(&opened, in_folder("chunked.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_read_input(opened, 0, 3, x, &error), STATUS_BAD_INPUT);
    assert_non_null(strstr(error.message, "'/input' cannot be read: the file is damaged (HDF5: "));
    case_file_free(opened);
}

static void test_case_file_compact_is_read(void **state)
{
    (void)state;
    const hid_t file = create_good(in_folder("compact.h5"));
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(list, H5D_COMPACT);
    put_dataset(file, "input", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, shape_x, list, good_values());
    H5Pclose(list);
    H5Fclose(file);
    assert_reads_good(in_folder("compact.h5"));
}

static void test_case_file_of_the_newest_format_is_read(void **state)
{
    (void)state;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    H5Pset_userblock(create, 1024);
    const hid_t old = create_good(in_folder("old.h5"));
    const hid_t file = H5Fcreate(in_folder("new.h5"), H5F_ACC_TRUNC, create, access);
    static const char *const attributes[] = {"groups", "stride", "scaling_factor"};
    for (size_t i = 0; i < 3; i++) {
        char buffer[16];
        const hid_t from = H5Aopen(old, attributes[i], H5P_DEFAULT), type = H5Aget_type(from);
        assert_true(H5Aread(from, type, buffer) >= 0);
        put_attribute(file, attributes[i], type, type, buffer, i == 1 ? 2 : 0);
        H5Tclose(type);
        H5Aclose(from);
    }
    put_string(file, "format", "assay-case", true);
    put_int(file, "version", 1);
    assert_true(H5Ocopy(old, "input", file, "input", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Ocopy(old, "params", file, "params", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    put_float32(file, "expected", 4, shape_y);
    H5Fclose(file);
    H5Fclose(old);
    H5Pclose(create);
    H5Pclose(access);
    assert_reads_good(in_folder("new.h5"));
}

static void test_case_file_with_soft_links_inside_is_read(void **state)
{
    (void)state;
    const hid_t file = create_good(in_folder("links.h5"));
    H5Lmove(file, "params", file, "model", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/model", file, "params", H5P_DEFAULT, H5P_DEFAULT);
    H5Lmove(file, "input", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("x", file, "input", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_reads_good(in_folder("links.h5"));
}

#define GOOD_TESTS 9

int main(void)
{
    struct CMUnitTest tests[BAD_CASES + GOOD_TESTS] = {
        cmocka_unit_test(test_case_file_with_patched_shape_is_refused),
        cmocka_unit_test(test_case_file_that_makes_hdf5_loop_is_refused),
        cmocka_unit_test(test_case_file_as_h5py_writes_it_is_read),
        cmocka_unit_test(test_case_file_with_other_objects_in_the_root_is_read),
        cmocka_unit_test(test_case_file_chunked_and_compressed_is_read),
        cmocka_unit_test(test_case_file_damaged_chunk_is_refused_when_read),
        cmocka_unit_test(test_case_file_compact_is_read),
        cmocka_unit_test(test_case_file_of_the_newest_format_is_read),
        cmocka_unit_test(test_case_file_with_soft_links_inside_is_read),
    };
    for (size_t i = 0; i < BAD_CASES; i++)
        tests[i + GOOD_TESTS] = (struct CMUnitTest){.name = bad_cases[i].name,
                                                    .test_func = run_bad_case,
                                                    .initial_state = (void *)&bad_cases[i]};
    return _cmocka_run_group_tests("storage of case files", tests, BAD_CASES + GOOD_TESTS,
                                   fixture_setup, fixture_teardown);
}
