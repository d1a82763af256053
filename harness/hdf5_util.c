#include "harness/hdf5_util.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOFT_LINKS_MAX 16
#define STRING_MAX 4096

void hdf5_init(void)
{
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static herr_t first_reason(unsigned n, const H5E_error2_t *entry, void *data)
{
    if (n == 0 && entry->desc)
        hdf5_printable(data, 240, entry->desc, strlen(entry->desc));
    return 0;
}

enum status hdf5_error(struct error *error, enum status status, const char *format, ...)
{
    char message[512], reason[240] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, reason);
    H5Eclear2(H5E_DEFAULT);

    /* "file write failed: time = ..., errno = 28, error message = 'No space left on device', ..."
     */
    const char *number = strstr(reason, "errno = ");
    const int code = number ? atoi(number + strlen("errno = ")) : 0;
    if (code)
        return error_set(error, STATUS_ENVIRONMENT, "%s: %s", message, strerror(code));
    if (!reason[0])
        return error_set(error, status, "%s", message);
    return error_set(error, status, "%s (HDF5: %s)", message, reason);
}

const char *hdf5_printable(char *out, size_t size, const char *text, size_t length)
{
    size_t n = 0;
    while (n < length && text[n] && n < size - 1) {
        const unsigned char c = (unsigned char)text[n];
        out[n++] = c < 0x20 || c > 0x7e ? '?' : (char)c;
    }
    out[n] = '\0';
    if (n < length && text[n] && size > 4)
        strcpy(out + size - 4, "...");
    return out;
}

/* ---- links ----------------------------------------------------------------------------------- */

static herr_t refuse_external(const char *parent_file, const char *parent_group,
                              const char *child_file, const char *child_object, unsigned *flags,
                              hid_t fapl, void *data)
{
    (void)parent_file, (void)parent_group, (void)child_file, (void)child_object;
    (void)flags, (void)fapl, (void)data;
    return -1;
}

hid_t hdf5_link_access(hid_t cls)
{
    const hid_t list = H5Pcreate(cls);
    if (list > 0 && (H5Pset_nlinks(list, SOFT_LINKS_MAX) < 0 ||
                     H5Pset_elink_cb(list, refuse_external, NULL) < 0)) {
        H5Pclose(list);
        return H5I_INVALID_HID;
    }
    return list;
}

/* One link, whose parents are known to be groups. */
static enum status find_link(hid_t file, const char *path, hid_t access, enum hdf5_kind *kind,
                             struct error *error)
{
    const htri_t exists = H5Lexists(file, path, access);
    if (exists < 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "'/%s' cannot be looked up: the file is damaged",
                          path);
    if (!exists) {
        *kind = HDF5_ABSENT;
        return STATUS_OK;
    }
    H5L_info_t link;
    if (H5Lget_info(file, path, &link, access) < 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "'/%s' cannot be looked up: the file is damaged",
                          path);
    if (link.type == H5L_TYPE_EXTERNAL)
        return error_set(error, STATUS_BAD_INPUT,
                         "'/%s' is an external link, which is never followed: copy the data into "
                         "the file",
                         path);
    if (link.type != H5L_TYPE_HARD && link.type != H5L_TYPE_SOFT)
        return error_set(error, STATUS_BAD_INPUT,
                         "'/%s' is a user-defined link: copy the data into the file", path);
    const hid_t object = H5Oopen(file, path, access);
    if (object < 0)
        return hdf5_error(
            error, STATUS_BAD_INPUT,
            link.type == H5L_TYPE_SOFT
                ? "'/%s' is a soft link that leads nowhere, in circles, or out of the "
                  "file"
                : "'/%s' cannot be opened: the file is damaged",
            path);
    const H5I_type_t type = H5Iget_type(object);
    H5Oclose(object);
    if (type != H5I_GROUP && type != H5I_DATASET)
        return error_set(error, STATUS_BAD_INPUT, "'/%s' is neither a group nor a dataset", path);
    *kind = type == H5I_GROUP ? HDF5_GROUP : HDF5_DATASET;
    return STATUS_OK;
}

enum status hdf5_find(hid_t file, const char *path, enum hdf5_kind *kind, struct error *error)
{
    enum status status = STATUS_OK;
    const hid_t access = hdf5_link_access(H5P_LINK_ACCESS);
    if (access < 0)
        return hdf5_error(error, STATUS_ENVIRONMENT, "no property list for links");
    *kind = HDF5_GROUP;
    for (const char *end = path; status == STATUS_OK && end;) {
        char part[64];
        end = strchr(end, '/');
        const size_t length = end ? (size_t)(end - path) : strlen(path);
        assert(length < sizeof part);
        memcpy(part, path, length);
        part[length] = '\0';
        status = find_link(file, part, access, kind, error);
        if (status == STATUS_OK && *kind == HDF5_ABSENT)
            break;
        if (status == STATUS_OK && end && *kind != HDF5_GROUP)
            status =
                error_set(error, STATUS_BAD_INPUT, "'/%s' is a dataset: it must be a group", part);
        if (end)
            end++;
    }
    H5Pclose(access);
    return status;
}

/* ---- types ----------------------------------------------------------------------------------- */

static const char *class_name(H5T_class_t cls)
{
    switch (cls) {
    case H5T_TIME:
        return "time";
    case H5T_STRING:
        return "string";
    case H5T_BITFIELD:
        return "bit field";
    case H5T_OPAQUE:
        return "opaque";
    case H5T_COMPOUND:
        return "compound";
    case H5T_REFERENCE:
        return "reference";
    case H5T_ENUM:
        return "enumeration";
    case H5T_VLEN:
        return "variable-length";
    case H5T_ARRAY:
        return "array";
    default:
        return "unknown";
    }
}

const char *hdf5_type_name(char *out, size_t size, hid_t type)
{
    const H5T_class_t cls = H5Tget_class(type);
    if (cls != H5T_FLOAT && cls != H5T_INTEGER) {
        snprintf(out, size, "%s", class_name(cls));
        return out;
    }
    const H5T_order_t order = H5Tget_order(type);
    const char *endian = order == H5T_ORDER_LE || H5Tget_size(type) == 1 ? ""
                         : order == H5T_ORDER_BE                         ? "big-endian "
                                                                         : "oddly ordered ";
    if (cls == H5T_INTEGER) {
        snprintf(out, size, "%s%sint%zu", endian, H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "",
                 H5Tget_precision(type));
        return out;
    }
    size_t sign, exponent_at, exponent, mantissa_at, mantissa;
    if (H5Tget_fields(type, &sign, &exponent_at, &exponent, &mantissa_at, &mantissa) < 0)
        snprintf(out, size, "broken float");
    else if (exponent == 8 && mantissa == 7)
        snprintf(out, size, "%sbfloat16", endian);
    else if ((exponent == 5 && mantissa == 10) || (exponent == 8 && mantissa == 23) ||
             (exponent == 11 && mantissa == 52))
        snprintf(out, size, "%sfloat%zu", endian, H5Tget_precision(type));
    else
        snprintf(out, size, "%sfloat with %zu bits of exponent and %zu of mantissa", endian,
                 exponent, mantissa);
    return out;
}

bool hdf5_is_number(hid_t type)
{
    const H5T_class_t cls = H5Tget_class(type);
    const H5T_order_t order = H5Tget_order(type);
    const size_t size = H5Tget_size(type), precision = H5Tget_precision(type);
    const int offset = H5Tget_offset(type);
    if ((cls != H5T_FLOAT && cls != H5T_INTEGER) || size == 0 || size > 8 || precision == 0 ||
        offset < 0 || precision + (size_t)offset > 8 * size ||
        (order != H5T_ORDER_LE && order != H5T_ORDER_BE))
        return false;
    if (cls == H5T_INTEGER)
        return true;
    size_t sign, exponent_at, exponent, mantissa_at, mantissa;
    return H5Tget_fields(type, &sign, &exponent_at, &exponent, &mantissa_at, &mantissa) >= 0 &&
           exponent > 0 && exponent <= 11 && mantissa > 0 && mantissa <= 52 && sign < precision &&
           exponent_at + exponent <= precision && mantissa_at + mantissa <= precision &&
           H5Tget_norm(type) == H5T_NORM_IMPLIED && H5Tget_ebias(type) <= 2047;
}

/* ---- attributes ------------------------------------------------------------------------------ */

/* Opens attribute `name` of at most `most` elements. *attribute is 0 where it is missing. */
static enum status attribute_open(hid_t object, const char *name, int most, hid_t *attribute,
                                  hid_t *type, int *count, struct error *error)
{
    *attribute = *type = 0;
    const htri_t exists = H5Aexists(object, name);
    if (exists < 0)
        return hdf5_error(error, STATUS_BAD_INPUT,
                          "attribute '%s' cannot be looked up: the file is damaged", name);
    if (!exists)
        return STATUS_OK;

    enum status status = STATUS_OK;
    hid_t space = 0;
    *attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (*attribute > 0) {
        *type = H5Aget_type(*attribute);
        space = H5Aget_space(*attribute);
    }
    if (*attribute <= 0 || *type <= 0 || space <= 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
        goto out;
    }
    const hssize_t points = H5Sget_simple_extent_npoints(space);
    const int rank = H5Sget_simple_extent_ndims(space);
    if (points < 1 || points > most || rank < 0 || rank > 1 ||
        H5Sget_simple_extent_type(space) == H5S_NULL) {
        status = error_set(error, STATUS_BAD_INPUT, "attribute '%s' has %lld elements: %s", name,
                           (long long)points, most == 1 ? "it must have 1" : "it must have 1 or 2");
        goto out;
    }
    *count = (int)points;
out:
    if (space > 0)
        H5Sclose(space);
    if (status != STATUS_OK) {
        if (*type > 0)
            H5Tclose(*type);
        if (*attribute > 0)
            H5Aclose(*attribute);
        *type = *attribute = 0;
    }
    return status;
}

static void attribute_close(hid_t attribute, hid_t type)
{
    H5Tclose(type);
    H5Aclose(attribute);
}

static enum status wrong_type(struct error *error, const char *name, hid_t type, const char *wanted)
{
    char found[80];
    return error_set(error, STATUS_BAD_INPUT, "attribute '%s' is of type %s: it must be %s", name,
                     hdf5_type_name(found, sizeof found, type), wanted);
}

static bool is_integer(hid_t type)
{
    return H5Tget_class(type) == H5T_INTEGER && hdf5_is_number(type);
}

enum status hdf5_attribute_int(hid_t object, const char *name, int64_t *values, int most,
                               int *count, struct error *error)
{
    assert(most <= 2);
    hid_t attribute, type;
    *count = 0;
    enum status status = attribute_open(object, name, most, &attribute, &type, count, error);
    if (status != STATUS_OK || attribute == 0)
        return status;
    /* HDF5 clips what does not fit, so an unsigned type is read as unsigned. */
    const bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
    uint64_t raw[2];
    if (!is_integer(type)) {
        status = wrong_type(error, name, type, "an integer");
    } else if (H5Aread(attribute, is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64, raw) < 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
    } else {
        for (int i = 0; i < *count && status == STATUS_OK; i++) {
            if (!is_signed && raw[i] > INT64_MAX)
                status = error_set(error, STATUS_BAD_INPUT, "attribute '%s' is '%llu': too large",
                                   name, (unsigned long long)raw[i]);
            values[i] = (int64_t)raw[i];
        }
    }
    attribute_close(attribute, type);
    return status;
}

enum status hdf5_attribute_uint64(hid_t object, const char *name, uint64_t *value, bool *present,
                                  struct error *error)
{
    hid_t attribute, type;
    int count = 0;
    enum status status = attribute_open(object, name, 1, &attribute, &type, &count, error);
    *present = status == STATUS_OK && attribute != 0;
    if (!*present)
        return status;
    if (!is_integer(type)) {
        status = wrong_type(error, name, type, "an integer");
    } else if (H5Tget_sign(type) != H5T_SGN_NONE) {
        int64_t found;
        if (H5Aread(attribute, H5T_NATIVE_INT64, &found) < 0)
            status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
        else if (found < 0)
            status = error_set(error, STATUS_BAD_INPUT,
                               "attribute '%s' is '%lld': it must not be "
                               "negative",
                               name, (long long)found);
        else
            *value = (uint64_t)found;
    } else if (H5Aread(attribute, H5T_NATIVE_UINT64, value) < 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
    }
    attribute_close(attribute, type);
    return status;
}

enum status hdf5_attribute_double(hid_t object, const char *name, double *value, bool *present,
                                  struct error *error)
{
    hid_t attribute, type;
    int count = 0;
    enum status status = attribute_open(object, name, 1, &attribute, &type, &count, error);
    *present = status == STATUS_OK && attribute != 0;
    if (!*present)
        return status;
    if (!hdf5_is_number(type))
        status = wrong_type(error, name, type, "a float");
    else if (H5Aread(attribute, H5T_NATIVE_DOUBLE, value) < 0)
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
    attribute_close(attribute, type);
    return status;
}

enum status hdf5_attribute_string(hid_t object, const char *name, char *out, size_t size,
                                  bool *present, struct error *error)
{
    hid_t attribute, type, memory = 0;
    char *text = NULL;
    int count = 0;
    enum status status = attribute_open(object, name, 1, &attribute, &type, &count, error);
    *present = status == STATUS_OK && attribute != 0;
    if (!*present)
        return status;

    const htri_t variable = H5Tis_variable_str(type);
    const size_t length = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING) {
        status = wrong_type(error, name, type, "a string");
        goto out;
    }
    if (variable < 0 || (!variable && length > STRING_MAX)) {
        status = error_set(error, STATUS_BAD_INPUT,
                           "attribute '%s' is a string of %zu bytes: at "
                           "most %d are read",
                           name, length, STRING_MAX);
        goto out;
    }
    memory = H5Tcopy(H5T_C_S1);
    if (memory <= 0 || H5Tset_cset(memory, H5Tget_cset(type)) < 0 ||
        H5Tset_size(memory, variable ? H5T_VARIABLE : length + 1) < 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
        goto out;
    }
    if (!variable)
        text = calloc(1, length + 1);
    if (!variable && !text) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        goto out;
    }
    if (H5Aread(attribute, memory, variable ? (void *)&text : (void *)text) < 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "attribute '%s' cannot be read", name);
        if (variable)
            text = NULL;
        goto out;
    }
    hdf5_printable(out, size, text ? text : "", text ? strlen(text) : 0);
out:
    if (variable > 0)
        H5free_memory(text);
    else
        free(text);
    if (memory > 0)
        H5Tclose(memory);
    attribute_close(attribute, type);
    return status;
}
