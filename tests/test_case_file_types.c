/* Case files: stored types that convert without loss are read exactly, values that do not are
 * refused by name and index. */
#include "tests/case_file_fixture.h"

#include <float.h>
#include <math.h>

/* ---- 16-bit floats, all of them ----------------------------------------------------------------
 */

/* An IEEE-like type of `exponent` and `mantissa` bits with a sign, as h5py stores float16. */
static hid_t float_type(size_t exponent, size_t mantissa, size_t bias, H5T_order_t order)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    const size_t bits = 1 + exponent + mantissa;
    assert_true(H5Tset_fields(type, bits - 1, mantissa, exponent, 0, mantissa) >= 0);
    assert_true(H5Tset_precision(type, bits) >= 0);
    assert_true(H5Tset_size(type, bits / 8) >= 0);
    assert_true(H5Tset_ebias(type, bias) >= 0);
    assert_true(H5Tset_order(type, order) >= 0);
    return type;
}

/* The value of a 16-bit pattern, by the definition of the format. */
static float value_of(uint16_t bits, int exponent_bits, int bias)
{
    const int mantissa_bits = 15 - exponent_bits;
    const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    float value;
    if (exponent == (1 << exponent_bits) - 1)
        value = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexpf((float)mantissa, 1 - bias - mantissa_bits);
    else
        value = ldexpf((float)(mantissa + (1 << mantissa_bits)), exponent - bias - mantissa_bits);
    return bits >> 15 ? -value : value;
}

static void assert_same_float(float found, float wanted)
{
    if (isnan(wanted))
        assert_true(isnan(found));
    else
        assert_memory_equal(&found, &wanted, sizeof found);
}

static void assert_all_16_bits(size_t exponent, int bias, H5T_order_t order)
{
    static uint16_t stored[65536];
    static float found[65536];
    struct error error = {0};
    struct case_file *file;
    for (int i = 0; i < 65536; i++)
        stored[i] = (uint16_t)(order == H5T_ORDER_BE ? (i >> 8 | (i & 255) << 8) : i);
    const hid_t type = float_type(exponent, 15 - exponent, (size_t)bias, order);
    const hid_t f = create_good(in_folder("half.h5"));
    H5Ldelete(f, "expected", H5P_DEFAULT);
    put_dataset(f, "input", type, type, 4, (hsize_t[]){2, 2, 128, 128}, 0, stored);
    H5Tclose(type);
    H5Fclose(f);
    assert_int_equal(case_file_open(&file, in_folder("half.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_read_input(file, 0, 2, found, &error), STATUS_OK);
    for (int i = 0; i < 65536; i++)
        assert_same_float(found[i], value_of((uint16_t)i, (int)exponent, bias));
    case_file_free(file);
}

static void test_case_file_every_float16_is_read_exactly(void **state)
{
    (void)state;
    assert_all_16_bits(5, 15, H5T_ORDER_LE);
    assert_all_16_bits(5, 15, H5T_ORDER_BE);
}

static void test_case_file_every_bfloat16_is_read_exactly(void **state)
{
    (void)state;
    assert_all_16_bits(8, 127, H5T_ORDER_LE);
    assert_all_16_bits(8, 127, H5T_ORDER_BE);
}

/* ---- every storage type -----------------------------------------------------------------------
 */

/* The good file with all tensors stored as `type`: opened and compared. */
static void assert_type_reads(hid_t type, const char *name, double roundoff, double quantum)
{
    struct error error = {0};
    struct case_file *file;
    float whole[SMALL_Y], x[SMALL_X], w[SMALL_W], b[SMALL_C], c[SMALL_C];
    double y[SMALL_Y];
    for (int i = 0; i < SMALL_Y; i++)
        whole[i] = (float)(i % 100);
    const hid_t f = create_good(in_folder("type.h5"));
    put_dataset(f, "input", type, H5T_NATIVE_FLOAT, 4, shape_x, 0, whole);
    put_dataset(f, "params/conv_transpose.weight", type, H5T_NATIVE_FLOAT, 4, shape_w, 0, whole);
    put_dataset(f, "params/conv_transpose.bias", type, H5T_NATIVE_FLOAT, 1, shape_c, 0, whole);
    put_dataset(f, "params/bias", type, H5T_NATIVE_FLOAT, 1, shape_c, 0, whole);
    put_dataset(f, "expected", type, H5T_NATIVE_FLOAT, 4, shape_y, 0, whole);
    H5Fclose(f);
    if (case_file_open(&file, in_folder("type.h5"), &error) != STATUS_OK)
        fail_msg("%s", error.message);
    assert_string_equal(case_file_expected(file)->type, name);
    assert_true(case_file_expected(file)->roundoff == roundoff);
    assert_true(case_file_expected(file)->quantum == quantum);
    if (case_file_read_params(file, w, c, b, &error) != STATUS_OK)
        fail_msg("%s", error.message);
    assert_memory_equal(w, whole, sizeof w);
    assert_memory_equal(c, whole, sizeof c);
    assert_memory_equal(b, whole, sizeof b);
    assert_int_equal(case_file_read_input(file, 0, 3, x, &error), STATUS_OK);
    assert_memory_equal(x, whole, sizeof x);
    assert_int_equal(case_file_read_expected(file, 1, 2, y, &error), STATUS_OK);
    for (int i = 0; i < 192; i++)
        assert_true(y[i] == (double)whole[96 + i]);
    case_file_free(file);
}

static void test_case_file_every_number_type_is_read(void **state)
{
    (void)state;
    const struct {
        hid_t type;
        const char *name;
        double roundoff, quantum;
    } types[] = {
        {H5T_STD_I8LE, "int8", 0, 0.5},
        {H5T_STD_U8BE, "uint8", 0, 0.5},
        {H5T_STD_I16LE, "int16", 0, 0.5},
        {H5T_STD_U16BE, "big-endian uint16", 0, 0.5},
        {H5T_STD_I32LE, "int32", 0, 0.5},
        {H5T_STD_U32BE, "big-endian uint32", 0, 0.5},
        {H5T_STD_I64BE, "big-endian int64", 0, 0.5},
        {H5T_STD_U64LE, "uint64", 0, 0.5},
        {H5T_IEEE_F32LE, "float32", 0x1p-24, 0x1p-150},
        {H5T_IEEE_F32BE, "big-endian float32", 0x1p-24, 0x1p-150},
        {H5T_IEEE_F64LE, "float64", 0x1p-53, 0x1p-1074},
        {H5T_IEEE_F64BE, "big-endian float64", 0x1p-53, 0x1p-1074},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        assert_type_reads(types[i].type, types[i].name, types[i].roundoff, types[i].quantum);
    const hid_t half = float_type(5, 10, 15, H5T_ORDER_LE);
    assert_type_reads(half, "float16", 0x1p-11, 0x1p-25);
    H5Tclose(half);
    const hid_t bfloat = float_type(8, 7, 127, H5T_ORDER_LE);
    assert_type_reads(bfloat, "bfloat16", 0x1p-8, 0x1p-134);
    H5Tclose(bfloat);
}

static void test_case_file_named_type_is_read(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    float x[SMALL_X];
    const hid_t f = create_good(in_folder("named.h5"));
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tcommit2(f, "float32", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    put_dataset(f, "input", type, H5T_NATIVE_FLOAT, 4, shape_x, 0, good_values());
    H5Tclose(type);
    H5Fclose(f);
    assert_int_equal(case_file_open(&file, in_folder("named.h5"), &error), STATUS_OK);
    assert_int_equal(case_file_read_input(file, 0, 3, x, &error), STATUS_OK);
    assert_memory_equal(x, good_values(), sizeof x);
    case_file_free(file);
}

/* ---- values of wide types ---------------------------------------------------------------------
 */

/* The input stored as `type` with `value` (of native type `memory`) at index 17 = [1, 0, 2, 1]. */
static enum status read_with(hid_t type, hid_t memory, size_t size, const void *value, float *found,
                             struct error *error)
{
    char values[SMALL_X * 8] = {0};
    float x[SMALL_X];
    struct case_file *file;
    memcpy(values + 17 * size, value, size);
    const hid_t f = create_good(in_folder("value.h5"));
    put_dataset(f, "input", type, memory, 4, shape_x, 0, values);
    H5Fclose(f);
    assert_int_equal(case_file_open(&file, in_folder("value.h5"), error), STATUS_OK);
    const enum status status = case_file_read_input(file, 0, 3, x, error);
    *found = x[17];
    case_file_free(file);
    return status;
}

static void test_case_file_float64_values_are_read_where_exact(void **state)
{
    (void)state;
    const double exact[] = {0.5, -0.0, FLT_MAX, FLT_TRUE_MIN, -INFINITY, NAN};
    const double inexact[] = {0.1, 1 + 0x1p-24, 0x1p-150, 0x1p128, DBL_MAX, DBL_TRUE_MIN};
    struct error error = {0};
    float found;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        assert_int_equal(read_with(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 8, &exact[i], &found, &error),
                         STATUS_OK);
        assert_same_float(found, (float)exact[i]);
    }
    for (size_t i = 0; i < sizeof inexact / sizeof *inexact; i++) {
        assert_int_equal(
            read_with(H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, 8, &inexact[i], &found, &error),
            STATUS_BAD_INPUT);
        char wanted[200];
        snprintf(
            wanted, sizeof wanted,
            "'/input' is stored as big-endian float64, and its value %.17g at [1, 0, 2, 1] has "
            "no equal in float32: store it as float32",
            inexact[i]);
        assert_non_null(strstr(error.message, wanted));
    }
}

static void test_case_file_integer_values_are_read_where_exact(void **state)
{
    (void)state;
    const int64_t exact[] = {1 << 24, -(1 << 24), 3 << 24, INT64_MIN, (int64_t)1 << 62};
    const int64_t inexact[] = {(1 << 24) + 1, -(1 << 24) - 1, INT64_MAX, INT64_MIN + 1};
    const uint64_t large = (uint64_t)1 << 63, odd = UINT64_MAX;
    struct error error = {0};
    float found;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        assert_int_equal(read_with(H5T_STD_I64LE, H5T_NATIVE_INT64, 8, &exact[i], &found, &error),
                         STATUS_OK);
        assert_same_float(found, (float)exact[i]);
    }
    for (size_t i = 0; i < sizeof inexact / sizeof *inexact; i++) {
        assert_int_equal(read_with(H5T_STD_I64LE, H5T_NATIVE_INT64, 8, &inexact[i], &found, &error),
                         STATUS_BAD_INPUT);
        char wanted[100];
        snprintf(wanted, sizeof wanted, "its value %lld at [1, 0, 2, 1] has no equal in float32",
                 (long long)inexact[i]);
        assert_non_null(strstr(error.message, wanted));
    }
    assert_int_equal(read_with(H5T_STD_U64LE, H5T_NATIVE_UINT64, 8, &large, &found, &error),
                     STATUS_OK);
    assert_same_float(found, 0x1p63f);
    assert_int_equal(read_with(H5T_STD_U64LE, H5T_NATIVE_UINT64, 8, &odd, &found, &error),
                     STATUS_BAD_INPUT);
    assert_non_null(strstr(error.message, "its value 18446744073709551615 at [1, 0, 2, 1]"));
}

/* ---- attributes -------------------------------------------------------------------------------
 */

static void test_case_file_attributes_of_any_integer_type_are_read(void **state)
{
    (void)state;
    const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_U8LE,  H5T_STD_I16BE, H5T_STD_U16LE,
                           H5T_STD_I32LE, H5T_STD_U32BE, H5T_STD_I64BE, H5T_STD_U64LE};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const int64_t stride[2] = {2, 1}, one = 1, two = 2;
        struct error error = {0};
        struct case_file *file;
        const struct problem p = small_problem();
        const hid_t f = create_good(in_folder("attributes.h5"));
        put_attribute(f, "stride", types[i], H5T_NATIVE_INT64, stride, 2);
        put_attribute(f, "version", types[i], H5T_NATIVE_INT64, &one, 1);
        put_attribute(f, "groups", types[i], H5T_NATIVE_INT64, &two, 0);
        put_attribute(f, "scaling_factor", types[i], H5T_NATIVE_INT64, &two, 1);
        put_string(f, "format", "assay-case", i % 2);
        H5Fclose(f);
        assert_int_equal(case_file_open(&file, in_folder("attributes.h5"), &error), STATUS_OK);
        assert_true(problem_equal(case_file_problem(file), &p));
        case_file_free(file);
    }
}

static void test_case_file_attribute_of_one_element_is_for_both_axes(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    const hid_t f = create_good(in_folder("attributes.h5"));
    H5Ldelete(f, "expected", H5P_DEFAULT);
    put_int(f, "stride", 3);
    put_int(f, "padding", 1);
    put_int(f, "output_padding", 2);
    put_int(f, "dilation", 4);
    H5Fclose(f);
    assert_int_equal(case_file_open(&file, in_folder("attributes.h5"), &error), STATUS_OK);
    const struct problem *p = case_file_problem(file);
    assert_true(p->stride_h == 3 && p->stride_w == 3 && p->padding_h == 1 && p->padding_w == 1);
    assert_true(p->output_padding_h == 2 && p->output_padding_w == 2);
    assert_true(p->dilation_h == 4 && p->dilation_w == 4);
    case_file_free(file);
}

static void test_case_file_scaling_factor_is_rounded_to_float32(void **state)
{
    (void)state;
    struct error error = {0};
    struct case_file *file;
    const double scale = -0.1;
    const hid_t f = create_good(in_folder("scale.h5"));
    put_attribute(f, "scaling_factor", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, &scale, 1);
    H5Fclose(f);
    assert_int_equal(case_file_open(&file, in_folder("scale.h5"), &error), STATUS_OK);
    assert_same_float(case_file_problem(file)->scaling_factor, -0.1f);
    case_file_free(file);
}

static void test_case_file_bias_of_one_element_is_read_in_any_rank(void **state)
{
    (void)state;
    for (int rank = 0; rank <= 4; rank++) {
        struct error error = {0};
        struct case_file *file;
        float w[SMALL_W], c[SMALL_C], b[2] = {7, 7};
        const hid_t f = create_good(in_folder("bias.h5"));
        put_float32(f, "params/bias", rank, (hsize_t[]){1, 1, 1, 1});
        H5Fclose(f);
        assert_int_equal(case_file_open(&file, in_folder("bias.h5"), &error), STATUS_OK);
        assert_int_equal(case_file_problem(file)->bias_count, 1);
        assert_int_equal(case_file_read_params(file, w, c, b, &error), STATUS_OK);
        assert_true(b[0] == good_value(0) && b[1] == 7);
        case_file_free(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case_file_every_float16_is_read_exactly),
        cmocka_unit_test(test_case_file_every_bfloat16_is_read_exactly),
        cmocka_unit_test(test_case_file_every_number_type_is_read),
        cmocka_unit_test(test_case_file_named_type_is_read),
        cmocka_unit_test(test_case_file_float64_values_are_read_where_exact),
        cmocka_unit_test(test_case_file_integer_values_are_read_where_exact),
        cmocka_unit_test(test_case_file_attributes_of_any_integer_type_are_read),
        cmocka_unit_test(test_case_file_attribute_of_one_element_is_for_both_axes),
        cmocka_unit_test(test_case_file_scaling_factor_is_rounded_to_float32),
        cmocka_unit_test(test_case_file_bias_of_one_element_is_read_in_any_rank),
    };
    return cmocka_run_group_tests_name("types in case files", tests, fixture_setup,
                                       fixture_teardown);
}
