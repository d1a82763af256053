/* What the case-file tests share: a temporary folder, and a small good case file written with HDF5
 * alone, as h5py would write it, for the tests to damage. */
#ifndef ASSAY_TESTS_CASE_FILE_FIXTURE_H
#define ASSAY_TESTS_CASE_FILE_FIXTURE_H

#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/case_file.h"

#define UNUSED __attribute__((unused))

static char fixture_folder[64];

static UNUSED int fixture_setup(void **state)
{
    (void)state;
    strcpy(fixture_folder, "/tmp/assay-test-XXXXXX");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return mkdtemp(fixture_folder) ? 0 : -1;
}

static UNUSED int fixture_teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_folder);
    return system(command) == 0 ? 0 : -1;
}

/* The path of `name` in the temporary folder; four at a time stay valid. */
static UNUSED const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next = (next + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fixture_folder, name);
    return path;
}

/* Names in the temporary folder. */
static UNUSED int files_in_folder(void)
{
    char command[128];
    int count = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", fixture_folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    pclose(pipe);
    return count;
}

/* x [3, 2, 3, 2], W [2, 2, 2, 3] in two groups, y [3, 4, 6, 4]: all axes differ. */
static UNUSED struct problem small_problem(void)
{
    return (struct problem){.batch = 3,
                            .in_channels = 2,
                            .out_channels = 4,
                            .height = 3,
                            .width = 2,
                            .kernel_h = 2,
                            .kernel_w = 3,
                            .stride_h = 2,
                            .stride_w = 1,
                            .padding_h = 0,
                            .padding_w = 0,
                            .output_padding_h = 0,
                            .output_padding_w = 0,
                            .dilation_h = 1,
                            .dilation_w = 1,
                            .groups = 2,
                            .bias_count = 4,
                            .has_conv_bias = true,
                            .scaling_factor = 2.0f};
}

#define SMALL_X 36
#define SMALL_W 24
#define SMALL_C 4
#define SMALL_Y 288

/* ---- pieces of HDF5 -------------------------------------------------------------------------- */

static UNUSED void put_attribute(hid_t object, const char *name, hid_t stored, hid_t memory,
                                 const void *values, int count)
{
    const hsize_t size = (hsize_t)count;
    if (H5Aexists(object, name) > 0)
        assert_true(H5Adelete(object, name) >= 0);
    const hid_t space = count ? H5Screate_simple(1, &size, NULL) : H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute > 0);
    assert_true(H5Awrite(attribute, memory, values) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
}

static UNUSED void put_int(hid_t object, const char *name, int64_t value)
{
    put_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value, 0);
}

static UNUSED void put_string(hid_t object, const char *name, const char *text, bool variable)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : strlen(text) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    put_attribute(object, name, type, type, variable ? (const void *)&text : text, 0);
    H5Tclose(type);
}

/* A dataset with the creation list `list` (0 = default); values may be NULL: not written. */
static UNUSED void put_dataset(hid_t file, const char *name, hid_t stored, hid_t memory, int rank,
                               const hsize_t *shape, hid_t list, const void *values)
{
    if (H5Lexists(file, name, H5P_DEFAULT) > 0)
        assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    const hid_t space = rank ? H5Screate_simple(rank, shape, NULL) : H5Screate(H5S_SCALAR);
    const hid_t dataset =
        H5Dcreate2(file, name, stored, space, H5P_DEFAULT, list ? list : H5P_DEFAULT, H5P_DEFAULT);
    assert_true(dataset > 0);
    if (values)
        assert_true(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
}

/* The value at index i of every tensor of the good file: small, distinct, exact in float16. */
static UNUSED float good_value(int i)
{
    return (float)(i % 64) * 0.25f - 3.0f;
}

static UNUSED const float *good_values(void)
{
    static float values[SMALL_Y];
    for (int i = 0; i < SMALL_Y; i++)
        values[i] = good_value(i);
    return values;
}

static UNUSED void put_float32(hid_t file, const char *name, int rank, const hsize_t *shape)
{
    put_dataset(file, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, rank, shape, 0, good_values());
}

static const hsize_t shape_x[] = {3, 2, 3, 2}, shape_w[] = {2, 2, 2, 3}, shape_c[] = {4, 1, 1},
                     shape_y[] = {3, 4, 6, 4};

/* The good file, as h5py writes it: variable-length strings, attributes only where not default. */
static UNUSED hid_t create_good(const char *path)
{
    const int64_t stride[2] = {2, 1};
    const double scale = 2.0;
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file > 0);
    put_string(file, "format", "assay-case", true);
    put_int(file, "version", 1);
    put_int(file, "groups", 2);
    put_attribute(file, "stride", H5T_STD_I64LE, H5T_NATIVE_INT64, stride, 2);
    put_attribute(file, "scaling_factor", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &scale, 0);
    H5Gclose(H5Gcreate2(file, "params", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    put_float32(file, "input", 4, shape_x);
    put_float32(file, "params/conv_transpose.weight", 4, shape_w);
    put_float32(file, "params/conv_transpose.bias", 1, shape_c);
    put_float32(file, "params/bias", 3, shape_c);
    put_float32(file, "expected", 4, shape_y);
    return file;
}

/* ---- files written by case_writer --------------------------------------------------------------
 */

static UNUSED const struct case_provenance provenance = {.descriptor =
                                                             "mb3ic2ih3iw2oc4kh2kw3sh2sw1g2",
                                                         .fill = "exact",
                                                         .version = "0.1",
                                                         .libraries = "OpenBLAS 0.3.21",
                                                         .commit = "0123456789ab",
                                                         .has_seed = true,
                                                         .seed = UINT64_MAX - 5};

/* Values that show every byte: NaN, infinities, -0, subnormals, then distinct ones. */
static UNUSED void fill_hard(float *values, int count)
{
    static const float special[] = {NAN,       INFINITY,          -INFINITY,      -0.0f,
                                    0x1p-149f, -0x1.fffffep-127f, 0x1.fffffep127f};
    for (int i = 0; i < count; i++)
        values[i] = i < 7 ? special[i] : (float)i / 3.0f;
}

/* Writes the small case in pieces of `step` images. */
static UNUSED void write_small(const char *path, const struct problem *p, int64_t step,
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

static UNUSED void assert_same_bytes(const char *a, const char *b)
{
    char command[600];
    snprintf(command, sizeof command, "cmp '%s' '%s'", a, b);
    assert_int_equal(system(command), 0);
}

/* ---- files as bytes ---------------------------------------------------------------------------
 */

static UNUSED void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static UNUSED char *read_bytes(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

/* ---- bad files --------------------------------------------------------------------------------
 */

/* A way to make the good file bad, and the message behind "'path': " that it must give; "..." at
 * its end stands for a file's length or HDF5's words. */
struct bad_case {
    const char *name;
    void (*make)(hid_t file);
    const char *reason;
};
#define BAD(name, reason)                                                                          \
    {                                                                                              \
        "test_case_file_" #name "_is_refused", name, reason                                        \
    }

static UNUSED double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Opens a bad file: one line that starts with the path, at once, no large allocation. */
static UNUSED const char *refused(const char *path)
{
    static struct error error;
    struct case_file *file = (void *)1;
    struct rusage before, after;
    char prefix[300];
    memset(&error, 0, sizeof error);
    getrusage(RUSAGE_SELF, &before);
    const double start = seconds();
    assert_int_equal(case_file_open(&file, path, &error), STATUS_BAD_INPUT);
    assert_true(seconds() - start < 1.0);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 32 * 1024);
    assert_null(file);
    assert_null(strchr(error.message, '\n'));
    const int length = snprintf(prefix, sizeof prefix, "'%s': ", path);
    assert_memory_equal(error.message, prefix, (size_t)length);
    return error.message + length;
}

static UNUSED void assert_reason(const char *found, const char *wanted)
{
    const size_t length = strlen(wanted);
    if (length > 3 && strcmp(wanted + length - 3, "...") == 0 &&
        strncmp(found, wanted, length - 3) == 0)
        return;
    assert_string_equal(found, wanted);
}

static UNUSED void run_bad_case(void **state)
{
    const struct bad_case *c = *state;
    const char *path = in_folder("bad.h5");
    H5Fclose(create_good(in_folder("other.h5")));
    const hid_t file = create_good(path);
    c->make(file);
    assert_true(H5Fclose(file) >= 0);
    assert_reason(refused(path), c->reason);
}

#endif
