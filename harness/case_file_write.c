#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "harness/case_file.h"
#include "harness/hdf5_util.h"
#include "harness/hdf5_writer.h"

/* Room for the file's structure, on top of the tensors. */
#define STRUCTURE_BYTES 65536
/* Expected values that are rounded at once. */
#define ROUND_ELEMENTS ((int64_t)1 << 18)

struct case_writer {
    struct hdf5_writer file;
    struct problem problem;
    enum case_expected_storage storage;
    struct tensor_writer input, weight, conv_bias, bias, expected, got, bound;
    float *rounded; /* [rounded_rows] rows of /expected, for F32 */
    int64_t rounded_rows;
    bool has_params;
};

static enum status write_attributes(struct case_writer *w, const struct case_provenance *from,
                                    struct error *error)
{
    const struct problem *p = &w->problem;
    const int64_t version = 1;
    const struct {
        const char *name;
        int64_t values[2];
    } pairs[] = {
        {"stride", {p->stride_h, p->stride_w}},
        {"padding", {p->padding_h, p->padding_w}},
        {"output_padding", {p->output_padding_h, p->output_padding_w}},
        {"dilation", {p->dilation_h, p->dilation_w}},
    };
    enum status status = hdf5_writer_string(&w->file, "format", "assay-case", error);
    if (status == STATUS_OK)
        status = hdf5_writer_attribute(&w->file, "version", H5T_STD_I64LE, H5T_NATIVE_INT64,
                                       &version, 0, error);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs && status == STATUS_OK; i++)
        status = hdf5_writer_attribute(&w->file, pairs[i].name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                                       pairs[i].values, 2, error);
    if (status == STATUS_OK)
        status = hdf5_writer_attribute(&w->file, "groups", H5T_STD_I64LE, H5T_NATIVE_INT64,
                                       &p->groups, 0, error);
    if (status == STATUS_OK)
        status = hdf5_writer_attribute(&w->file, "scaling_factor", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT,
                                       &p->scaling_factor, 0, error);
    if (!from)
        return status;

    const struct {
        const char *name, *text;
    } strings[] = {
        {"descriptor", from->descriptor}, {"fill", from->fill},
        {"assay_version", from->version}, {"libraries", from->libraries},
        {"commit", from->commit},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings && status == STATUS_OK; i++)
        if (strings[i].text[0])
            status = hdf5_writer_string(&w->file, strings[i].name, strings[i].text, error);
    if (status == STATUS_OK && from->has_seed)
        status = hdf5_writer_attribute(&w->file, "seed", H5T_STD_U64LE, H5T_NATIVE_UINT64,
                                       &from->seed, 0, error);
    return status;
}

static enum status create_tensors(struct case_writer *w, struct error *error)
{
    const struct problem *p = &w->problem;
    const int64_t x[] = {p->batch, p->in_channels, p->height, p->width};
    const int64_t k[] = {p->in_channels, p->out_channels / p->groups, p->kernel_h, p->kernel_w};
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    const int64_t c[] = {p->out_channels, 1, 1}, one[] = {1};

    const hid_t group = H5Gcreate2(w->file.hdf5, "params", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group <= 0)
        return hdf5_writer_failed(&w->file, "a group cannot be created", error);
    H5Gclose(group);
    enum status status = hdf5_writer_tensor(&w->file, &w->weight, "params/conv_transpose.weight",
                                            TENSOR_FLOAT32, k, 4, error);
    if (status == STATUS_OK && p->has_conv_bias)
        status = hdf5_writer_tensor(&w->file, &w->conv_bias, "params/conv_transpose.bias",
                                    TENSOR_FLOAT32, c, 1, error);
    if (status == STATUS_OK)
        status =
            hdf5_writer_tensor(&w->file, &w->bias, "params/bias", TENSOR_FLOAT32,
                               p->bias_count == 1 ? one : c, p->bias_count == 1 ? 1 : 3, error);
    if (status == STATUS_OK)
        status = hdf5_writer_tensor(&w->file, &w->input, "input", TENSOR_FLOAT32, x, 4, error);
    if (status == STATUS_OK && w->storage != CASE_EXPECTED_NONE)
        status = hdf5_writer_tensor(
            &w->file, &w->expected, "expected",
            w->storage == CASE_EXPECTED_F32 ? TENSOR_FLOAT32 : TENSOR_FLOAT64, y, 4, error);
    return status;
}

/* The whole file's length, or slightly more. */
static enum status file_bytes(const struct case_writer *w, const char *path, int64_t *bytes,
                              struct error *error)
{
    const struct problem *p = &w->problem;
    const int64_t y_size = w->storage == CASE_EXPECTED_F64   ? 8
                           : w->storage == CASE_EXPECTED_F32 ? 4
                                                             : 0;
    int64_t x, k, y;
    if (__builtin_mul_overflow(problem_input_count(p), (int64_t)4, &x) ||
        __builtin_mul_overflow(problem_weight_count(p), (int64_t)4, &k) ||
        __builtin_mul_overflow(problem_output_count(p), y_size, &y) ||
        __builtin_add_overflow(x, k, bytes) || __builtin_add_overflow(*bytes, y, bytes) ||
        __builtin_add_overflow(*bytes, 8 * p->out_channels + STRUCTURE_BYTES, bytes))
        return error_set(error, STATUS_ENVIRONMENT, "'%.300s': no file can hold this case", path);
    return STATUS_OK;
}

enum status case_writer_create(struct case_writer **out, const char *path,
                               const struct problem *problem,
                               const struct case_provenance *provenance,
                               enum case_expected_storage expected, struct error *error)
{
    *out = NULL;
    int64_t bytes = 0;
    struct case_writer *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    w->problem = *problem;
    w->storage = expected;
    enum status status = file_bytes(w, path, &bytes, error);
    if (status == STATUS_OK)
        status = hdf5_writer_init(&w->file, path, bytes, error);
    if (status == STATUS_OK)
        status = write_attributes(w, provenance, error);
    if (status == STATUS_OK)
        status = create_tensors(w, error);
    if (status == STATUS_OK && expected == CASE_EXPECTED_F32 && w->expected.row > 0) {
        w->rounded_rows = ROUND_ELEMENTS / w->expected.row;
        if (w->rounded_rows == 0)
            w->rounded_rows = 1;
        w->rounded = malloc((size_t)w->rounded_rows * (size_t)w->expected.row * sizeof *w->rounded);
        if (!w->rounded)
            status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
    }
    if (status != STATUS_OK) {
        case_writer_free(w);
        return status;
    }
    *out = w;
    return STATUS_OK;
}

enum status case_writer_params(struct case_writer *w, const struct params *params,
                               struct error *error)
{
    assert(!w->has_params);
    enum status status =
        hdf5_writer_append(&w->file, &w->weight, params->weight, w->weight.shape[0], error);
    if (status == STATUS_OK && w->problem.has_conv_bias)
        status = hdf5_writer_append(&w->file, &w->conv_bias, params->conv_bias,
                                    w->conv_bias.shape[0], error);
    if (status == STATUS_OK)
        status = hdf5_writer_append(&w->file, &w->bias, params->bias, w->bias.shape[0], error);
    w->has_params = true;
    return status;
}

enum status case_writer_input(struct case_writer *w, const float *images, int64_t count,
                              struct error *error)
{
    return hdf5_writer_append(&w->file, &w->input, images, count, error);
}

enum status case_writer_expected(struct case_writer *w, const double *images, int64_t count,
                                 struct error *error)
{
    assert(w->storage != CASE_EXPECTED_NONE);
    if (w->storage == CASE_EXPECTED_F64)
        return hdf5_writer_append(&w->file, &w->expected, images, count, error);
    for (int64_t done = 0; done < count;) {
        const int64_t rows = count - done < w->rounded_rows ? count - done : w->rounded_rows;
        const double *from = images + done * w->expected.row;
        for (int64_t i = 0; i < rows * w->expected.row; i++)
            w->rounded[i] = (float)from[i];
        const enum status status =
            hdf5_writer_append(&w->file, &w->expected, w->rounded, rows, error);
        if (status != STATUS_OK)
            return status;
        done += rows;
    }
    return STATUS_OK;
}

enum status case_writer_capsule(struct case_writer *w, const char *record, int64_t first_image,
                                struct error *error)
{
    const struct problem *p = &w->problem;
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    enum status status = hdf5_writer_string(&w->file, "record", record, error);
    if (status == STATUS_OK)
        status = hdf5_writer_attribute(&w->file, "first_image", H5T_STD_I64LE, H5T_NATIVE_INT64,
                                       &first_image, 0, error);
    if (status == STATUS_OK)
        status = hdf5_writer_tensor(&w->file, &w->got, "got", TENSOR_FLOAT32, y, 4, error);
    if (status == STATUS_OK)
        status = hdf5_writer_tensor(&w->file, &w->bound, "bound", TENSOR_FLOAT32, y, 4, error);
    return status;
}

enum status case_writer_got(struct case_writer *w, const float *got, const float *bound,
                            int64_t count, struct error *error)
{
    const enum status status = hdf5_writer_append(&w->file, &w->got, got, count, error);
    return status == STATUS_OK ? hdf5_writer_append(&w->file, &w->bound, bound, count, error)
                               : status;
}

enum status case_writer_commit(struct case_writer *w, struct error *error)
{
    struct tensor_writer *tensors[] = {&w->weight,   &w->conv_bias, &w->bias, &w->input,
                                       &w->expected, &w->got,       &w->bound};
    assert(w->has_params);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        if (tensors[i]->dataset <= 0)
            continue;
        const enum status status = hdf5_writer_finish_tensor(&w->file, tensors[i], error);
        if (status != STATUS_OK)
            return status;
    }
    return hdf5_writer_commit(&w->file, error);
}

void case_writer_free(struct case_writer *w)
{
    if (!w)
        return;
    hdf5_writer_release(&w->file);
    free(w->rounded);
    free(w);
}
