#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/case_file.h"
#include "harness/hdf5_file.h"
#include "harness/hdf5_tensor.h"
#include "harness/hdf5_util.h"

struct case_file {
    hid_t file;
    struct problem problem;
    struct hdf5_tensor input, weight, conv_bias, bias, expected_tensor;
    struct case_expected expected;
    struct case_provenance provenance;
    char path[200]; /* for messages */
};

/* ---- what a case file must hold ---------------------------------------------------------------
 */

static enum status read_pair(hid_t file, const char *name, int64_t missing, int64_t *h, int64_t *w,
                             struct error *error)
{
    int64_t values[2] = {missing, missing};
    int count;
    const enum status status = hdf5_attribute_int(file, name, values, 2, &count, error);
    *h = values[0];
    *w = count == 1 ? values[0] : values[1];
    return status;
}

static enum status read_format(hid_t file, struct error *error)
{
    char format[64];
    bool present;
    enum status status =
        hdf5_attribute_string(file, "format", format, sizeof format, &present, error);
    if (status != STATUS_OK)
        return status;
    if (!present)
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'format' is missing: a case file has format 'assay-case'");
    if (strcmp(format, "assay-case") != 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'format' is '%s': it must be 'assay-case'", format);
    int64_t version;
    int count;
    status = hdf5_attribute_int(file, "version", &version, 1, &count, error);
    if (status != STATUS_OK)
        return status;
    if (!count)
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'version' is missing: this assay reads version 1");
    if (version != 1)
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'version' is %lld: this assay reads version 1",
                         (long long)version);
    return STATUS_OK;
}

static enum status read_attributes(hid_t file, struct problem *p, struct error *error)
{
    const struct {
        const char *name;
        int64_t missing, *h, *w;
    } pairs[] = {
        {"stride", 1, &p->stride_h, &p->stride_w},
        {"padding", 0, &p->padding_h, &p->padding_w},
        {"output_padding", 0, &p->output_padding_h, &p->output_padding_w},
        {"dilation", 1, &p->dilation_h, &p->dilation_w},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const enum status status =
            read_pair(file, pairs[i].name, pairs[i].missing, pairs[i].h, pairs[i].w, error);
        if (status != STATUS_OK)
            return status;
    }
    int count;
    p->groups = 1;
    enum status status = hdf5_attribute_int(file, "groups", &p->groups, 1, &count, error);
    if (status != STATUS_OK)
        return status;

    double scale;
    bool present;
    status = hdf5_attribute_double(file, "scaling_factor", &scale, &present, error);
    if (status != STATUS_OK)
        return status;
    if (!present)
        return error_set(error, STATUS_BAD_INPUT, "attribute 'scaling_factor' is missing");
    p->scaling_factor = (float)scale;
    if (isinf(p->scaling_factor) && !isinf(scale))
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'scaling_factor' is '%g': it overflows float32", scale);
    return STATUS_OK;
}

static enum status read_provenance(hid_t file, struct case_provenance *p, struct error *error)
{
    const struct {
        const char *name;
        char *text;
        size_t size;
    } strings[] = {
        {"descriptor", p->descriptor, sizeof p->descriptor},
        {"fill", p->fill, sizeof p->fill},
        {"assay_version", p->version, sizeof p->version},
        {"libraries", p->libraries, sizeof p->libraries},
        {"commit", p->commit, sizeof p->commit},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        bool present;
        const enum status status = hdf5_attribute_string(file, strings[i].name, strings[i].text,
                                                         strings[i].size, &present, error);
        if (status != STATUS_OK)
            return status;
    }
    return hdf5_attribute_uint64(file, "seed", &p->seed, &p->has_seed, error);
}

static enum status need(const struct hdf5_tensor *t, bool present, struct error *error)
{
    return present ? STATUS_OK
                   : error_set(error, STATUS_BAD_INPUT, "dataset '%s' is missing", t->name);
}

static enum status need_rank(const struct hdf5_tensor *t, int rank, const char *axes,
                             struct error *error)
{
    if (t->rank == rank)
        return STATUS_OK;
    char shape[120];
    return error_set(error, STATUS_BAD_INPUT, "'%s' has shape %s: it must be %s", t->name,
                     hdf5_shape_name(shape, sizeof shape, t->shape, t->rank), axes);
}

/* In `/params` a name that is not known is most likely a parameter with a wrong name. */
static enum status check_params(struct case_file *f, struct error *error)
{
    enum hdf5_kind kind;
    const enum status status = hdf5_find(f->file, "params", &kind, error);
    if (status != STATUS_OK)
        return status;
    if (kind != HDF5_GROUP)
        return error_set(error, STATUS_BAD_INPUT,
                         kind == HDF5_ABSENT ? "group '/params' is missing"
                                             : "'/params' is a dataset: it must be a group");
    H5G_info_t info;
    if (H5Gget_info_by_name(f->file, "params", &info, H5P_DEFAULT) < 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "'/params' cannot be read");
    const unsigned known =
        (f->weight.dataset > 0) + (f->conv_bias.dataset > 0) + (f->bias.dataset > 0);
    if (info.nlinks != known)
        return error_set(error, STATUS_BAD_INPUT,
                         "'/params' holds %llu objects and %u are known: it must hold "
                         "'conv_transpose.weight', 'bias' and, where there is one, "
                         "'conv_transpose.bias'",
                         (unsigned long long)info.nlinks, known);
    return STATUS_OK;
}

static enum status open_tensors(struct case_file *f, int64_t size, struct error *error)
{
    const struct {
        struct hdf5_tensor *tensor;
        const char *path;
        enum tensor_value value;
        bool *present;
        bool required;
    } tensors[] = {
        {&f->input, "input", TENSOR_FLOAT32, NULL, true},
        {&f->weight, "params/conv_transpose.weight", TENSOR_FLOAT32, NULL, true},
        {&f->conv_bias, "params/conv_transpose.bias", TENSOR_FLOAT32, &f->problem.has_conv_bias,
         false},
        {&f->bias, "params/bias", TENSOR_FLOAT32, NULL, true},
        {&f->expected_tensor, "expected", TENSOR_FLOAT64, &f->expected.present, false},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        bool present;
        enum status status = hdf5_tensor_open(tensors[i].tensor, f->file, size, tensors[i].path,
                                              tensors[i].value, &present, error);
        if (status == STATUS_OK && tensors[i].required)
            status = need(tensors[i].tensor, present, error);
        if (status != STATUS_OK)
            return status;
        if (tensors[i].present)
            *tensors[i].present = present;
    }
    return check_params(f, error);
}

static enum status check_shapes(struct case_file *f, struct error *error)
{
    struct problem *p = &f->problem;
    const struct hdf5_tensor *x = &f->input, *w = &f->weight, *b = &f->bias;
    enum status status = need_rank(x, 4, "[N, Cin, H, W]", error);
    if (status == STATUS_OK)
        status = need_rank(w, 4, "[Cin, Cout / groups, kH, kW]", error);
    if (status != STATUS_OK)
        return status;
    if (w->shape[0] != x->shape[1])
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s' has %lld input channels and '%s' has %lld: they must agree", w->name,
                         (long long)w->shape[0], x->name, (long long)x->shape[1]);
    p->batch = x->shape[0];
    p->in_channels = x->shape[1];
    p->height = x->shape[2];
    p->width = x->shape[3];
    p->kernel_h = w->shape[2];
    p->kernel_w = w->shape[3];
    if (__builtin_mul_overflow(w->shape[1], p->groups, &p->out_channels))
        return error_set(error, STATUS_BAD_INPUT, "attribute 'groups' is '%lld': too large",
                         (long long)p->groups);
    p->bias_count = b->count == 1 ? 1 : p->out_channels;
    status = problem_validate(p, error);
    if (status != STATUS_OK)
        return status;

    const int64_t channels[] = {p->out_channels, 1, 1};
    if (p->has_conv_bias)
        status = hdf5_tensor_expect_shape(&f->conv_bias, channels, 1, error);
    if (status == STATUS_OK && b->count != 1)
        status = hdf5_tensor_expect_shape(b, channels, b->rank == 1 ? 1 : 3, error);
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    if (status == STATUS_OK && f->expected.present)
        status = hdf5_tensor_expect_shape(&f->expected_tensor, y, 4, error);
    return status;
}

static enum status open_any(struct case_file **out, const char *path, const void *image,
                            int64_t size, struct error *error)
{
    *out = NULL;
    enum status status;
    struct case_file *f = calloc(1, sizeof *f);
    if (!f)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    hdf5_printable(f->path, sizeof f->path, path, strlen(path));
    if (image)
        status = hdf5_file_open_image(&f->file, path, image, (size_t)size, error);
    else
        status = hdf5_file_open(&f->file, path, &size, error);
    if (status == STATUS_OK)
        status = read_format(f->file, error);
    if (status == STATUS_OK)
        status = read_attributes(f->file, &f->problem, error);
    if (status == STATUS_OK)
        status = read_provenance(f->file, &f->provenance, error);
    if (status == STATUS_OK)
        status = open_tensors(f, size, error);
    if (status == STATUS_OK)
        status = check_shapes(f, error);
    if (status != STATUS_OK) {
        error_prefix(error, "'%s'", f->path);
        case_file_free(f);
        return status;
    }
    if (f->expected.present) {
        f->expected.roundoff = f->expected_tensor.roundoff;
        f->expected.quantum = f->expected_tensor.quantum;
        memcpy(f->expected.type, f->expected_tensor.type, sizeof f->expected.type);
    }
    *out = f;
    return STATUS_OK;
}

enum status case_file_open(struct case_file **file, const char *path, struct error *error)
{
    return open_any(file, path, NULL, 0, error);
}

enum status case_file_open_image(struct case_file **file, const void *image, size_t size,
                                 const char *name, struct error *error)
{
    return open_any(file, name, image, (int64_t)size, error);
}

void case_file_free(struct case_file *f)
{
    if (!f)
        return;
    hdf5_tensor_close(&f->input);
    hdf5_tensor_close(&f->weight);
    hdf5_tensor_close(&f->conv_bias);
    hdf5_tensor_close(&f->bias);
    hdf5_tensor_close(&f->expected_tensor);
    if (f->file > 0)
        H5Fclose(f->file);
    H5Eclear2(H5E_DEFAULT);
    free(f);
}

/* ---- contents ---------------------------------------------------------------------------------
 */

const struct problem *case_file_problem(const struct case_file *file)
{
    return &file->problem;
}

const struct case_expected *case_file_expected(const struct case_file *file)
{
    return &file->expected;
}

const struct case_provenance *case_file_provenance(const struct case_file *file)
{
    return &file->provenance;
}

static enum status read_rows(const char *path, struct hdf5_tensor *t, int64_t first, int64_t count,
                             void *out, struct error *error)
{
    const enum status status = hdf5_tensor_read(t, first, count, out, error);
    if (status != STATUS_OK)
        error_prefix(error, "'%s'", path);
    return status;
}

static int64_t rows(const struct hdf5_tensor *t)
{
    return t->rank ? t->shape[0] : 1;
}

enum status case_file_read_params(struct case_file *f, float *weight, float *conv_bias, float *bias,
                                  struct error *error)
{
    enum status status = read_rows(f->path, &f->weight, 0, rows(&f->weight), weight, error);
    if (status == STATUS_OK && f->problem.has_conv_bias)
        status = read_rows(f->path, &f->conv_bias, 0, rows(&f->conv_bias), conv_bias, error);
    if (status == STATUS_OK)
        status = read_rows(f->path, &f->bias, 0, rows(&f->bias), bias, error);
    return status;
}

enum status case_file_read_input(struct case_file *f, int64_t first, int64_t count, float *images,
                                 struct error *error)
{
    return read_rows(f->path, &f->input, first, count, images, error);
}

enum status case_file_read_expected(struct case_file *f, int64_t first, int64_t count,
                                    double *images, struct error *error)
{
    assert(f->expected.present);
    return read_rows(f->path, &f->expected_tensor, first, count, images, error);
}

enum status case_file_check_sums(struct case_file *f, int *checked, struct error *error)
{
    struct hdf5_tensor *tensors[] = {&f->weight, &f->conv_bias, &f->bias, &f->input,
                                     &f->expected_tensor};
    int count = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        if (tensors[i]->dataset <= 0 || !tensors[i]->has_crc)
            continue;
        const enum status status = hdf5_tensor_check_crc(tensors[i], error);
        if (status != STATUS_OK) {
            error_prefix(error, "'%s'", f->path);
            return status;
        }
        count++;
    }
    if (checked)
        *checked = count;
    return STATUS_OK;
}
