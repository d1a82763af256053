#include "harness/case_contents.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/hdf5_file.h"
#include "harness/hdf5_util.h"

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
    p->scaling_factor = isnan(scale) ? NAN : (float)scale; /* one NaN, as descriptors have */
    const bool overflow = isinf(p->scaling_factor) && !isinf(scale);
    if (overflow || (p->scaling_factor == 0.0f && scale != 0.0))
        return error_set(error, STATUS_BAD_INPUT,
                         "attribute 'scaling_factor' is '%g': it %s float32", scale,
                         overflow ? "overflows" : "underflows");
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
static enum status check_params(struct case_contents *f, struct error *error)
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
    const unsigned known = (f->tensors[CASE_WEIGHT].dataset > 0) +
                           (f->tensors[CASE_CONV_BIAS].dataset > 0) +
                           (f->tensors[CASE_BIAS].dataset > 0);
    if (info.nlinks != known)
        return error_set(error, STATUS_BAD_INPUT,
                         "'/params' holds %llu objects and %u are known: it must hold "
                         "'conv_transpose.weight', 'bias' and, where there is one, "
                         "'conv_transpose.bias'",
                         (unsigned long long)info.nlinks, known);
    return STATUS_OK;
}

static enum status open_tensors(struct case_contents *f, int64_t size, struct error *error)
{
    const struct {
        struct hdf5_tensor *tensor;
        const char *path;
        enum tensor_value value;
        bool *present;
        bool required;
    } tensors[] = {
        {&f->tensors[CASE_INPUT], "input", TENSOR_FLOAT32, NULL, true},
        {&f->tensors[CASE_WEIGHT], "params/conv_transpose.weight", TENSOR_FLOAT32, NULL, true},
        {&f->tensors[CASE_CONV_BIAS], "params/conv_transpose.bias", TENSOR_FLOAT32,
         &f->about.problem.has_conv_bias, false},
        {&f->tensors[CASE_BIAS], "params/bias", TENSOR_FLOAT32, NULL, true},
        {&f->tensors[CASE_EXPECTED], "expected", TENSOR_FLOAT64, &f->about.expected.present, false},
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

static enum status check_shapes(struct case_contents *f, struct error *error)
{
    struct problem *p = &f->about.problem;
    const struct hdf5_tensor *x = &f->tensors[CASE_INPUT], *w = &f->tensors[CASE_WEIGHT],
                             *b = &f->tensors[CASE_BIAS];
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
        status = hdf5_tensor_expect_shape(&f->tensors[CASE_CONV_BIAS], channels, 1, error);
    if (status == STATUS_OK && b->count != 1)
        status = hdf5_tensor_expect_shape(b, channels, b->rank == 1 ? 1 : 3, error);
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    if (status == STATUS_OK && f->about.expected.present)
        status = hdf5_tensor_expect_shape(&f->tensors[CASE_EXPECTED], y, 4, error);
    return status;
}

/* ---- open, close ----------------------------------------------------------------------------- */

static enum status open_file(struct case_contents *f, const struct case_place *place, int64_t *size,
                             struct error *error)
{
    if (!place->image)
        return hdf5_file_open(&f->file, place->path, size, error);
    *size = (int64_t)place->size;
    return hdf5_file_open_image(&f->file, place->path, place->image, place->size, error);
}

enum status case_contents_open(struct case_contents *f, const struct case_place *place,
                               struct error *error)
{
    int64_t size = 0;
    memset(f, 0, sizeof *f);
    enum status status = open_file(f, place, &size, error);
    if (status == STATUS_OK)
        status = read_format(f->file, error);
    if (status == STATUS_OK)
        status = read_attributes(f->file, &f->about.problem, error);
    if (status == STATUS_OK)
        status = read_provenance(f->file, &f->about.provenance, error);
    if (status == STATUS_OK)
        status = open_tensors(f, size, error);
    if (status == STATUS_OK)
        status = check_shapes(f, error);
    if (status != STATUS_OK) {
        case_contents_close(f);
        return status;
    }
    const struct hdf5_tensor *y = &f->tensors[CASE_EXPECTED];
    if (f->about.expected.present) {
        f->about.expected.roundoff = y->roundoff;
        f->about.expected.quantum = y->quantum;
        memcpy(f->about.expected.type, y->type, sizeof f->about.expected.type);
    }
    return STATUS_OK;
}

enum status case_contents_open_output(struct case_contents *f, const struct case_place *place,
                                      const struct problem *p, struct error *error)
{
    int64_t size = 0;
    bool present = false;
    struct hdf5_tensor *output = &f->tensors[CASE_OUTPUT];
    memset(f, 0, sizeof *f);
    f->about.problem = *p;
    enum status status = open_file(f, place, &size, error);
    if (status == STATUS_OK)
        status = hdf5_tensor_open(output, f->file, size, "output", TENSOR_FLOAT32, &present, error);
    if (status == STATUS_OK)
        status = need(output, present, error);
    const int64_t y[] = {p->batch, p->out_channels, problem_output_h(p), problem_output_w(p)};
    if (status == STATUS_OK)
        status = hdf5_tensor_expect_shape(output, y, 4, error);
    if (status != STATUS_OK)
        case_contents_close(f);
    return status;
}

void case_contents_close(struct case_contents *f)
{
    for (int i = 0; i < CASE_TENSORS; i++)
        hdf5_tensor_close(&f->tensors[i]);
    if (f->file > 0)
        H5Fclose(f->file);
    f->file = 0;
    H5Eclear2(H5E_DEFAULT);
}

enum status case_contents_record(struct case_contents *f, char *record, size_t size,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    const hid_t attribute =
        H5Aexists(f->file, "record") > 0 ? H5Aopen(f->file, "record", H5P_DEFAULT) : 0;
    const hid_t type = attribute > 0 ? H5Aget_type(attribute) : 0;
    const hid_t space = attribute > 0 ? H5Aget_space(attribute) : 0;
    memset(record, 0, size);
    if (type <= 0 || space <= 0)
        status =
            error_set(error, STATUS_BAD_INPUT, "no failure capsule: it has no attribute 'record'");
    else if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
             H5Tget_size(type) >= size || H5Sget_simple_extent_npoints(space) != 1)
        status = error_set(error, STATUS_BAD_INPUT,
                           "attribute 'record' is no string of at most %zu bytes", size - 1);
    else if (H5Aread(attribute, type, record) < 0)
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute 'record' cannot be read");
    if (space > 0)
        H5Sclose(space);
    if (type > 0)
        H5Tclose(type);
    if (attribute > 0)
        H5Aclose(attribute);
    return status;
}

enum status case_contents_check_sums(struct case_contents *f, tensor_pulse pulse, int *checked,
                                     struct error *error)
{
    *checked = 0;
    for (int i = 0; i < CASE_TENSORS; i++) {
        if (f->tensors[i].dataset <= 0 || !f->tensors[i].has_crc)
            continue;
        const enum status status = hdf5_tensor_check_crc(&f->tensors[i], pulse, error);
        if (status != STATUS_OK)
            return status;
        ++*checked;
    }
    return STATUS_OK;
}
