#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "harness/hdf5_tensor.h"
#include "harness/hdf5_util.h"

/* Elements read at once through a buffer of our own. */
#define BUFFER_ELEMENTS ((int64_t)1 << 17)

/* ---- reading --------------------------------------------------------------------------------- */

static enum status damaged(const struct hdf5_tensor *t, struct error *error)
{
    return hdf5_error(error, STATUS_BAD_INPUT, "'%s' cannot be read: the file is damaged", t->name);
}

/* Reads elements [at, at + length) of the row-major order, a box by construction of for_boxes. */
static enum status read_box(const struct hdf5_tensor *t, const hsize_t *start, const hsize_t *size,
                            int64_t length, hid_t memory_type, void *out, struct error *error)
{
    enum status status = STATUS_OK;
    const hsize_t points = (hsize_t)length;
    hid_t memory = H5Screate_simple(1, &points, NULL), space = H5Dget_space(t->dataset);
    if (memory <= 0 || space <= 0 ||
        (t->rank > 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0) ||
        H5Dread(t->dataset, memory_type, memory, space, H5P_DEFAULT, out) < 0)
        status = damaged(t, error);
    if (space > 0)
        H5Sclose(space);
    if (memory > 0)
        H5Sclose(memory);
    return status;
}

typedef enum status (*box_function)(struct hdf5_tensor *tensor, const hsize_t *start,
                                    const hsize_t *size, int64_t at, int64_t length, void *data,
                                    struct error *error);

/* Calls `function` for consecutive boxes of at most `most` elements that cover rows
 * [first, first + count) in row-major order; `at` counts elements from row `first`. */
static enum status for_boxes(struct hdf5_tensor *t, int64_t first, int64_t count, int64_t most,
                             box_function function, void *data, struct error *error)
{
    if (t->rank == 0) {
        assert(first == 0 && count <= 1);
        return count ? function(t, NULL, NULL, 0, 1, data, error) : STATUS_OK;
    }
    assert(first >= 0 && count >= 0 && count <= t->shape[0] && first <= t->shape[0] - count);
    if (t->count == 0 || count == 0)
        return STATUS_OK;

    /* A box is whole behind axis `split`, `rows` long on it, and one element before it. */
    int split = t->rank - 1;
    int64_t behind = 1;
    while (split > 0 && behind * t->shape[split] <= most)
        behind *= t->shape[split--];
    const int64_t rows_most = most / behind;

    hsize_t start[HDF5_RANK_MAX] = {0}, size[HDF5_RANK_MAX];
    start[0] = (hsize_t)first;
    const int64_t total = t->count / t->shape[0] * count;
    for (int64_t at = 0; at < total;) {
        const int64_t end = split == 0 ? first + count : t->shape[split];
        int64_t rows = end - (int64_t)start[split];
        if (rows > rows_most)
            rows = rows_most;
        for (int i = 0; i < t->rank; i++)
            size[i] = i < split ? 1 : i == split ? (hsize_t)rows : (hsize_t)t->shape[i];
        const enum status status = function(t, start, size, at, rows * behind, data, error);
        if (status != STATUS_OK)
            return status;
        at += rows * behind;
        start[split] += (hsize_t)rows;
        for (int i = split; i > 0 && start[i] == (hsize_t)t->shape[i]; i--) {
            start[i] = 0;
            start[i - 1]++;
        }
    }
    return STATUS_OK;
}

/* Where values go: read into the window, box by box, and handed on. */
struct window_read {
    void *window;
    void *wide; /* BUFFER_ELEMENTS of 8 bytes, for values that are checked */
    tensor_sink sink;
    void *data;
};

static enum status read_direct(struct hdf5_tensor *t, const hsize_t *start, const hsize_t *size,
                               int64_t at, int64_t length, void *data, struct error *error)
{
    const struct window_read *read = data;
    const hid_t type = t->value == TENSOR_FLOAT32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
    const enum status status = read_box(t, start, size, length, type, read->window, error);
    return status == STATUS_OK ? read->sink(read->data, at, length, error) : status;
}

/* A magnitude of at most `digits` significant bits. */
static bool integer_fits(uint64_t magnitude, int digits)
{
    return magnitude == 0 || magnitude >> __builtin_ctzll(magnitude) < (uint64_t)1 << digits;
}

/* Converts element i of the buffer; false where the target has no equal. `text` then holds it. */
static bool convert(const struct hdf5_tensor *t, const void *buffer, int64_t i, double *value,
                    char *text, size_t size)
{
    const int digits = t->value == TENSOR_FLOAT32 ? FLT_MANT_DIG : DBL_MANT_DIG;
    if (t->route == ROUTE_DOUBLE) {
        *value = ((const double *)buffer)[i];
        if (isnan(*value) || (double)(float)*value == *value)
            return true;
        snprintf(text, size, "%.17g", *value);
        return false;
    }
    if (t->route == ROUTE_INT64) {
        const int64_t v = ((const int64_t *)buffer)[i];
        *value = (double)v;
        snprintf(text, size, "%lld", (long long)v);
        return integer_fits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, digits);
    }
    const uint64_t v = ((const uint64_t *)buffer)[i];
    *value = (double)v;
    snprintf(text, size, "%llu", (unsigned long long)v);
    return integer_fits(v, digits);
}

static enum status read_checked(struct hdf5_tensor *t, const hsize_t *start, const hsize_t *size,
                                int64_t at, int64_t length, void *data, struct error *error)
{
    const struct window_read *read = data;
    const hid_t memory_type = t->route == ROUTE_DOUBLE  ? H5T_NATIVE_DOUBLE
                              : t->route == ROUTE_INT64 ? H5T_NATIVE_INT64
                                                        : H5T_NATIVE_UINT64;
    const enum status status = read_box(t, start, size, length, memory_type, read->wide, error);
    if (status != STATUS_OK)
        return status;
    for (int64_t i = 0; i < length; i++) {
        double value;
        char text[40];
        if (!convert(t, read->wide, i, &value, text, sizeof text)) {
            int64_t index[HDF5_RANK_MAX] = {0}, rest = i;
            char where[120];
            for (int axis = t->rank - 1; axis >= 0; axis--) {
                index[axis] = (int64_t)start[axis] + rest % (int64_t)size[axis];
                rest /= (int64_t)size[axis];
            }
            return error_set(
                error, STATUS_BAD_INPUT,
                "'%s' is stored as %s, and its value %s at %s has no equal in %s: store "
                "it as %s",
                t->name, t->type, text, hdf5_shape_name(where, sizeof where, index, t->rank),
                t->value == TENSOR_FLOAT32 ? "float32" : "float64",
                t->value == TENSOR_FLOAT32 ? "float32" : "float64");
        }
        if (t->value == TENSOR_FLOAT32)
            ((float *)read->window)[i] = (float)value;
        else
            ((double *)read->window)[i] = value;
    }
    return read->sink(read->data, at, length, error);
}

enum status hdf5_tensor_read(struct hdf5_tensor *t, int64_t first, int64_t count, void *window,
                             int64_t elements, tensor_sink sink, void *data, struct error *error)
{
    struct window_read read = {.window = window, .sink = sink, .data = data};
    if (t->route == ROUTE_DIRECT)
        return for_boxes(t, first, count, elements, read_direct, &read, error);
    read.wide = malloc(BUFFER_ELEMENTS * 8);
    if (!read.wide)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const enum status status =
        for_boxes(t, first, count, elements < BUFFER_ELEMENTS ? elements : BUFFER_ELEMENTS,
                  read_checked, &read, error);
    free(read.wide);
    return status;
}

/* ---- checksum -------------------------------------------------------------------------------- */

struct crc_read {
    void *buffer;
    tensor_pulse pulse;
    uLong crc;
};

static enum status read_crc(struct hdf5_tensor *t, const hsize_t *start, const hsize_t *size,
                            int64_t at, int64_t length, void *data, struct error *error)
{
    (void)at;
    struct crc_read *read = data;
    if (read->pulse)
        read->pulse();
    const enum status status = read_box(t, start, size, length, t->stored, read->buffer, error);
    if (status == STATUS_OK)
        read->crc = crc32_z(read->crc, read->buffer, (size_t)length * t->stored_size);
    return status;
}

enum status hdf5_tensor_check_crc(struct hdf5_tensor *t, tensor_pulse pulse, struct error *error)
{
    struct crc_read read = {
        .buffer = malloc((size_t)BUFFER_ELEMENTS * t->stored_size), .pulse = pulse, .crc = 0};
    if (!read.buffer)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    enum status status =
        for_boxes(t, 0, t->rank ? t->shape[0] : 1, BUFFER_ELEMENTS, read_crc, &read, error);
    if (status == STATUS_OK && read.crc != t->crc)
        status = error_set(error, STATUS_BAD_INPUT,
                           "'%s' is damaged: its CRC-32 is %08lx, and %08lx was stored with it: "
                           "make the file again",
                           t->name, read.crc, (unsigned long)t->crc);
    free(read.buffer);
    return status;
}
