/* Case files: every kind of bad file is refused by name, in one line, at once, with little memory.
 */
#include "tests/case_file_fixture.h"

#include <sys/stat.h>

/* ---- ways to make a good file bad ------------------------------------------------------------ */

static void make_int(hid_t f, const char *name, int64_t value)
{
    put_int(f, name, value);
}

static void no_format(hid_t f)
{
    H5Adelete(f, "format");
}
static void other_format(hid_t f)
{
    put_string(f, "format", "assay\ncase\x1b[31m", false);
}
static void format_is_integer(hid_t f)
{
    make_int(f, "format", 1);
}
static void long_format(hid_t f)
{
    char text[5000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    put_string(f, "format", text, false);
}
static void no_version(hid_t f)
{
    H5Adelete(f, "version");
}
static void version_2(hid_t f)
{
    make_int(f, "version", 2);
}
static void version_is_string(hid_t f)
{
    put_string(f, "version", "1", true);
}
static void version_is_float(hid_t f)
{
    const double version = 1;
    put_attribute(f, "version", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &version, 0);
}
static void stride_zero(hid_t f)
{
    make_int(f, "stride", 0);
}
static void padding_negative(hid_t f)
{
    make_int(f, "padding", -1);
}
static void dilation_enormous(hid_t f)
{
    make_int(f, "dilation", INT64_MAX);
}
static void groups_beyond_int64(hid_t f)
{
    const uint64_t groups = UINT64_MAX;
    put_attribute(f, "groups", H5T_STD_U64LE, H5T_NATIVE_UINT64, &groups, 0);
}
static void groups_enormous(hid_t f)
{
    make_int(f, "groups", INT64_MAX);
}
static void groups_zero(hid_t f)
{
    make_int(f, "groups", 0);
}
static void groups_two(hid_t f)
{
    const int64_t groups[2] = {2, 2};
    put_attribute(f, "groups", H5T_STD_I64LE, H5T_NATIVE_INT64, groups, 2);
}
static void groups_do_not_divide(hid_t f)
{
    make_int(f, "groups", 3);
}
static void stride_three(hid_t f)
{
    const int64_t stride[3] = {1, 1, 1};
    put_attribute(f, "stride", H5T_STD_I64LE, H5T_NATIVE_INT64, stride, 3);
}
static void stride_null(hid_t f)
{
    H5Adelete(f, "stride");
    const hid_t space = H5Screate(H5S_NULL);
    H5Aclose(H5Acreate2(f, "stride", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}
static void output_padding_large(hid_t f)
{
    make_int(f, "output_padding", 2);
}
static void no_scale(hid_t f)
{
    H5Adelete(f, "scaling_factor");
}
static void scale_is_string(hid_t f)
{
    put_string(f, "scaling_factor", "2.0", true);
}
static void scale_overflows(hid_t f)
{
    const double scale = 1e300;
    put_attribute(f, "scaling_factor", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &scale, 0);
}
static void scale_underflows(hid_t f)
{
    const double scale = -1e-300;
    put_attribute(f, "scaling_factor", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &scale, 0);
}
static void seed_negative(hid_t f)
{
    make_int(f, "seed", -1);
}

static void no_input(hid_t f)
{
    H5Ldelete(f, "input", H5P_DEFAULT);
}
static void no_params(hid_t f)
{
    H5Ldelete(f, "params", H5P_DEFAULT);
}
static void no_weight(hid_t f)
{
    H5Ldelete(f, "params/conv_transpose.weight", H5P_DEFAULT);
}
static void no_bias(hid_t f)
{
    H5Ldelete(f, "params/bias", H5P_DEFAULT);
}
static void input_is_group(hid_t f)
{
    no_input(f);
    H5Gclose(H5Gcreate2(f, "input", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void params_is_dataset(hid_t f)
{
    no_params(f);
    put_float32(f, "params", 1, shape_c);
}
static void input_is_named_type(hid_t f)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    no_input(f);
    H5Tcommit2(f, "input", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
}
static void misspelled_parameter(hid_t f)
{
    H5Lmove(f, "params/conv_transpose.bias", f, "params/conv_transpose.bais", H5P_DEFAULT,
            H5P_DEFAULT);
}

static void input_rank_3(hid_t f)
{
    put_float32(f, "input", 3, shape_x);
}
static void input_rank_5(hid_t f)
{
    put_float32(f, "input", 5, (hsize_t[]){3, 2, 3, 2, 1});
}
static void input_scalar(hid_t f)
{
    put_float32(f, "input", 0, NULL);
}
static void input_null(hid_t f)
{
    no_input(f);
    const hid_t space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(f, "input", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}
static void weight_rank_2(hid_t f)
{
    put_float32(f, "params/conv_transpose.weight", 2, shape_w);
}
static void channels_disagree(hid_t f)
{
    put_float32(f, "input", 4, (hsize_t[]){3, 3, 3, 2});
}
static void height_zero(hid_t f)
{
    put_float32(f, "input", 4, (hsize_t[]){3, 2, 0, 2});
}
static void conv_bias_short(hid_t f)
{
    put_float32(f, "params/conv_transpose.bias", 1, (hsize_t[]){3});
}
static void conv_bias_of_rank_3(hid_t f)
{
    put_float32(f, "params/conv_transpose.bias", 3, shape_c);
}
static void bias_of_other_axis(hid_t f)
{
    put_float32(f, "params/bias", 3, (hsize_t[]){1, 4, 1});
}
static void bias_short(hid_t f)
{
    put_float32(f, "params/bias", 1, (hsize_t[]){2});
}
static void expected_of_other_shape(hid_t f)
{
    put_float32(f, "expected", 4, (hsize_t[]){3, 4, 4, 6});
}

static void put_typed(hid_t f, const char *name, hid_t type)
{
    put_dataset(f, name, type, type, 4, shape_x, 0, NULL);
}
static void input_of_strings(hid_t f)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    put_typed(f, "input", type);
    H5Tclose(type);
}
static void input_complex(hid_t f)
{
    const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(type, "r", 0, H5T_IEEE_F32LE);
    H5Tinsert(type, "i", 4, H5T_IEEE_F32LE);
    put_typed(f, "input", type);
    H5Tclose(type);
}
static void input_bool(hid_t f)
{
    const hid_t type = H5Tenum_create(H5T_STD_I8LE);
    int8_t value = 0;
    H5Tenum_insert(type, "FALSE", &value);
    value = 1;
    H5Tenum_insert(type, "TRUE", &value);
    put_typed(f, "input", type);
    H5Tclose(type);
}
static void input_opaque(hid_t f)
{
    const hid_t type = H5Tcreate(H5T_OPAQUE, 4);
    put_typed(f, "input", type);
    H5Tclose(type);
}
static void input_array(hid_t f)
{
    const hid_t type = H5Tarray_create2(H5T_IEEE_F32LE, 1, (hsize_t[]){2});
    put_typed(f, "input", type);
    H5Tclose(type);
}
static void input_long_double(hid_t f)
{
    put_typed(f, "input", H5T_NATIVE_LDOUBLE);
}

static const struct bad_case bad_cases[] = {
#define BAD(name, reason)                                                                          \
    {                                                                                              \
        "test_case_file_" #name "_is_refused", name, reason                                        \
    }
    BAD(no_format, "attribute 'format' is missing: a case file has format 'assay-case'"),
    BAD(other_format, "attribute 'format' is 'assay?case?[31m': it must be 'assay-case'"),
    BAD(format_is_integer, "attribute 'format' is of type int64: it must be a string"),
    BAD(long_format, "attribute 'format' is a string of 5000 bytes: at most 4096 are read"),
    BAD(no_version, "attribute 'version' is missing: this assay reads version 1"),
    BAD(version_2, "attribute 'version' is 2: this assay reads version 1"),
    BAD(version_is_string, "attribute 'version' is of type string: it must be an integer"),
    BAD(version_is_float, "attribute 'version' is of type float64: it must be an integer"),
    BAD(stride_zero, "stride height '0' must be at least 1"),
    BAD(padding_negative, "padding height '-1' must not be negative"),
    BAD(dilation_enormous, "dilation height '9223372036854775807' is too large: ..."),
    BAD(groups_beyond_int64, "attribute 'groups' is '18446744073709551615': too large"),
    BAD(groups_enormous, "attribute 'groups' is '9223372036854775807': too large"),
    BAD(groups_zero, "groups '0' must be at least 1"),
    BAD(groups_two, "attribute 'groups' has 2 elements: it must have 1"),
    BAD(groups_do_not_divide, "in_channels '2' must be divisible by groups '3'"),
    BAD(stride_three, "attribute 'stride' has 3 elements: it must have 1 or 2"),
    BAD(stride_null, "attribute 'stride' has 0 elements: it must have 1 or 2"),
    BAD(output_padding_large,
        "output_padding '2x2' must be smaller than either stride or dilation"),
    BAD(no_scale, "attribute 'scaling_factor' is missing"),
    BAD(scale_is_string, "attribute 'scaling_factor' is of type string: it must be a float"),
    BAD(scale_overflows, "attribute 'scaling_factor' is '1e+300': it overflows float32"),
    BAD(scale_underflows, "attribute 'scaling_factor' is '-1e-300': it underflows float32"),
    BAD(seed_negative, "attribute 'seed' is '-1': it must not be negative"),
    BAD(no_input, "dataset '/input' is missing"),
    BAD(no_params, "dataset '/params/conv_transpose.weight' is missing"),
    BAD(no_weight, "dataset '/params/conv_transpose.weight' is missing"),
    BAD(no_bias, "dataset '/params/bias' is missing"),
    BAD(input_is_group, "'/input' is a group: it must be a dataset"),
    BAD(params_is_dataset, "'/params' is a dataset: it must be a group"),
    BAD(input_is_named_type, "'/input' is neither a group nor a dataset"),
    BAD(misspelled_parameter,
        "'/params' holds 3 objects and 2 are known: it must hold 'conv_transpose.weight', 'bias' "
        "and, where there is one, 'conv_transpose.bias'"),
    BAD(input_rank_3, "'/input' has shape [3, 2, 3]: it must be [N, Cin, H, W]"),
    BAD(input_rank_5, "'/input' has rank 5: at most 4 is read"),
    BAD(input_scalar, "'/input' has shape []: it must be [N, Cin, H, W]"),
    BAD(input_null, "'/input' is empty: it has no shape"),
    BAD(weight_rank_2, "'/params/conv_transpose.weight' has shape [2, 2]: it must be [Cin, Cout / "
                       "groups, kH, kW]"),
    BAD(channels_disagree, "'/params/conv_transpose.weight' has 2 input channels and '/input' has "
                           "3: they must agree"),
    BAD(height_zero, "input height '0' must be at least 1"),
    BAD(conv_bias_short, "'/params/conv_transpose.bias' has shape [3]: it must be [4]"),
    BAD(conv_bias_of_rank_3, "'/params/conv_transpose.bias' has shape [4, 1, 1]: it must be [4]"),
    BAD(bias_of_other_axis, "'/params/bias' has shape [1, 4, 1]: it must be [4, 1, 1]"),
    BAD(bias_short, "'/params/bias' has shape [2]: it must be [4]"),
    BAD(expected_of_other_shape, "'/expected' has shape [3, 4, 4, 6]: it must be [3, 4, 6, 4]"),
#define STORED(type)                                                                               \
    "'/input' is stored as " type ": store it as float32, or another integer or float type that "  \
    "converts to it without loss"
    BAD(input_of_strings, STORED("string")),
    BAD(input_complex, STORED("compound")),
    BAD(input_bool, STORED("enumeration")),
    BAD(input_opaque, STORED("opaque")),
    BAD(input_array, STORED("array")),
    BAD(input_long_double, "'/input' is stored as float..."),
};
#define BAD_CASES (sizeof bad_cases / sizeof *bad_cases)

/* ---- files that are not what they say -------------------------------------------------------- */

static void test_case_file_that_is_no_hdf5_is_refused(void **state)
{
    (void)state;
    write_bytes(in_folder("empty.h5"), "", 0);
    assert_string_equal(refused(in_folder("empty.h5")), "empty: it must be an HDF5 file");
    write_bytes(in_folder("text.h5"), "some text\n", 10);
    assert_string_equal(refused(in_folder("text.h5")), "not an HDF5 file");
    assert_string_equal(refused(fixture_folder), "a directory: it must be an HDF5 file");
    assert_string_equal(refused("/dev/zero"), "not a regular file");
    assert_string_equal(refused(in_folder("none.h5")),
                        "cannot be opened: No such file or directory");
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_string_equal(refused(in_folder("fifo")), "not a regular file");
}

static void test_case_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    size_t size;
    H5Fclose(create_good(in_folder("good.h5")));
    char *bytes = read_bytes(in_folder("good.h5"), &size);
    for (size_t length = size - 1; length > 0; length -= length > 64 ? 17 : 1) {
        struct error error = {0};
        struct case_file *file;
        assert_int_equal(case_file_open_image(&file, bytes, length, "image", &error),
                         STATUS_BAD_INPUT);
        assert_null(file);
    }
    write_bytes(in_folder("cut.h5"), bytes, size - 1);
    assert_memory_equal(refused(in_folder("cut.h5")), "damaged or truncated (HDF5: truncated file",
                        42);
    free(bytes);
}

/* A capsule's record is read in the child, too, and no more is written than there is room for. */
static void test_capsule_with_a_record_of_many_strings_is_refused(void **state)
{
    (void)state;
    static char strings[100][40], record[64];
    struct error error = {0};
    struct case_file *capsule;
    const char *path = in_folder("capsule.h5");
    const hid_t file = create_good(path), type = H5Tcopy(H5T_C_S1);
    memset(strings, '{', sizeof strings);
    H5Tset_size(type, sizeof strings[0]);
    put_attribute(file, "record", type, type, strings, 100);
    H5Tclose(type);
    H5Fclose(file);
    assert_int_equal(case_file_open(&capsule, path, &error), STATUS_OK);
    assert_int_equal(case_file_read_record(capsule, record, 50, &error), STATUS_BAD_INPUT);
    assert_non_null(strstr(error.message, "attribute 'record' is no string of at most 49 bytes"));
    case_file_free(capsule);
}

/* What HDF5 makes of a damaged attribute does not reach the program: here it is a size. */
static void test_capsule_whose_record_is_damaged_is_refused(void **state)
{
    (void)state;
    size_t size;
    char record[64];
    struct error error = {0};
    const char *path = in_folder("capsule.h5");
    const hid_t file = create_good(path);
    put_string(file, "record", "{}", false);
    H5Fclose(file);
    char *bytes = read_bytes(path, &size), *at = memmem(bytes, size, "record", 6);
    assert_non_null(at);
    for (char *p = at - 8; p < at + 24; p++) {
        struct case_file *capsule;
        const char kept = *p;
        *p = (char)0xff;
        if (case_file_open_image(&capsule, bytes, size, "image", &error) == STATUS_OK) {
            const enum status status =
                case_file_read_record(capsule, record, sizeof record, &error);
            assert_true(status == STATUS_OK || status == STATUS_BAD_INPUT);
        }
        case_file_free(capsule);
        *p = kept;
    }
    free(bytes);
}

int main(void)
{
    struct CMUnitTest tests[BAD_CASES + 4] = {
        cmocka_unit_test(test_case_file_that_is_no_hdf5_is_refused),
        cmocka_unit_test(test_case_file_cut_anywhere_is_refused),
        cmocka_unit_test(test_capsule_with_a_record_of_many_strings_is_refused),
        cmocka_unit_test(test_capsule_whose_record_is_damaged_is_refused),
    };
    for (size_t i = 0; i < BAD_CASES; i++)
        tests[i + 4] = (struct CMUnitTest){.name = bad_cases[i].name,
                                           .test_func = run_bad_case,
                                           .initial_state = (void *)&bad_cases[i]};
    return cmocka_run_group_tests_name("bad case files", tests, fixture_setup, fixture_teardown);
}
