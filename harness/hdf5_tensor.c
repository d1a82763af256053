#include "harness/hdf5_tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/hdf5_util.h"

#define CHUNK_CACHE_BYTES ((size_t)64 << 20)
/* Deflate makes at most 1032 bytes of one (RFC 1951: 258 bytes for two bits). */
#define DEFLATE_RATIO 1032

/* ---- types ----------------------------------------------------------------------------------- */

struct precision {
    int digits, exponent_min, exponent_max; /* of two; exponents of normal numbers 1.f * 2^e */
};
static const struct precision targets[] = {
    [TENSOR_FLOAT32] = {24, -126, 127}, [TENSOR_FLOAT64] = {53, -1022, 1023}};

/* Every value of `a`, subnormals too, is one of `b`. */
static bool precision_within(const struct precision *a, const struct precision *b)
{
    return a->digits <= b->digits && a->exponent_max <= b->exponent_max &&
           a->exponent_min - a->digits >= b->exponent_min - b->digits;
}

/* Finds tensor->route, roundoff and quantum; false where the type cannot be read. */
static bool choose_route(struct hdf5_tensor *t)
{
    if (!hdf5_is_number(t->stored))
        return false;
    const struct precision *target = &targets[t->value];
    if (H5Tget_class(t->stored) == H5T_INTEGER) {
        const int precision = (int)H5Tget_precision(t->stored);
        const bool is_signed = H5Tget_sign(t->stored) != H5T_SGN_NONE;
        t->roundoff = 0;
        t->quantum = 0.5;
        t->route = precision - is_signed <= target->digits ? ROUTE_DIRECT
                   : is_signed                             ? ROUTE_INT64
                                                           : ROUTE_UINT64;
        return true;
    }
    size_t sign, exponent_at, exponent, mantissa_at, mantissa;
    H5Tget_fields(t->stored, &sign, &exponent_at, &exponent, &mantissa_at, &mantissa);
    const size_t bias = H5Tget_ebias(t->stored);
    const struct precision stored = {.digits = (int)mantissa + 1,
                                     .exponent_min = 1 - (int)bias,
                                     .exponent_max = (1 << exponent) - 2 - (int)bias};
    t->roundoff = ldexp(1.0, -stored.digits);
    t->quantum = fmax(ldexp(1.0, stored.exponent_min - stored.digits), 0x1p-1074);
    t->route = precision_within(&stored, target) ? ROUTE_DIRECT : ROUTE_DOUBLE;
    return precision_within(&stored, &targets[TENSOR_FLOAT64]);
}

static enum status check_type(struct hdf5_tensor *t, struct error *error)
{
    if (t->stored <= 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "the type of '%s' cannot be read", t->name);
    hdf5_type_name(t->type, sizeof t->type, t->stored);
    if (choose_route(t))
        return STATUS_OK;
    return error_set(error, STATUS_BAD_INPUT,
                     "'%s' is stored as %s: store it as %s, or another integer or float type that "
                     "converts to it without loss",
                     t->name, t->type, t->value == TENSOR_FLOAT32 ? "float32" : "float64");
}

/* ---- shape and storage ----------------------------------------------------------------------- */

const char *hdf5_shape_name(char *out, size_t size, const int64_t *shape, int rank)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (n < size)
        snprintf(out + n, size - n, "]");
    return out;
}

enum status hdf5_tensor_expect_shape(const struct hdf5_tensor *t, const int64_t *shape, int rank,
                                     struct error *error)
{
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = t->shape[i] == shape[i];
    if (same)
        return STATUS_OK;
    char found[120], wanted[120];
    return error_set(error, STATUS_BAD_INPUT, "'%s' has shape %s: it must be %s", t->name,
                     hdf5_shape_name(found, sizeof found, t->shape, t->rank),
                     hdf5_shape_name(wanted, sizeof wanted, shape, rank));
}

static enum status read_shape(struct hdf5_tensor *t, hid_t space, struct error *error)
{
    const H5S_class_t cls = H5Sget_simple_extent_type(space);
    const int rank = H5Sget_simple_extent_ndims(space);
    if (cls != H5S_SIMPLE && cls != H5S_SCALAR)
        return error_set(error, STATUS_BAD_INPUT, "'%s' is empty: it has no shape", t->name);
    if (rank < 0 || rank > HDF5_RANK_MAX)
        return error_set(error, STATUS_BAD_INPUT, "'%s' has rank %d: at most %d is read", t->name,
                         rank, HDF5_RANK_MAX);
    hsize_t sizes[HDF5_RANK_MAX];
    if (H5Sget_simple_extent_dims(space, sizes, NULL) < 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "the shape of '%s' cannot be read", t->name);
    t->rank = rank;
    t->count = 1;
    bool empty = false, fits = true;
    for (int i = 0; i < rank; i++) {
        if (sizes[i] > INT64_MAX)
            return error_set(error, STATUS_BAD_INPUT, "'%s' has size %llu on axis %d: too large",
                             t->name, (unsigned long long)sizes[i], i);
        t->shape[i] = (int64_t)sizes[i];
        empty |= sizes[i] == 0;
        fits &= !__builtin_mul_overflow(t->count, t->shape[i], &t->count);
    }
    if (empty)
        t->count = 0;
    else if (!fits || t->count > INT64_MAX / 8) {
        char shape[120];
        return error_set(error, STATUS_BAD_INPUT, "'%s' claims shape %s: too large", t->name,
                         hdf5_shape_name(shape, sizeof shape, t->shape, rank));
    }
    return STATUS_OK;
}

static enum status claims_too_much(const struct hdf5_tensor *t, int64_t bytes, int64_t file_size,
                                   struct error *error)
{
    return error_set(error, STATUS_BAD_INPUT,
                     "'%s' claims %lld bytes, more than the file of %lld bytes can hold", t->name,
                     (long long)bytes, (long long)file_size);
}

static enum status check_filters(const struct hdf5_tensor *t, hid_t list, bool *compressed,
                                 struct error *error)
{
    const int count = H5Pget_nfilters(list);
    if (count < 0)
        return hdf5_error(error, STATUS_BAD_INPUT, "the filters of '%s' cannot be read", t->name);
    for (int i = 0; i < count; i++) {
        char name[64] = "", printable[64];
        size_t values = 0;
        unsigned flags, config;
        const H5Z_filter_t filter = H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL,
                                                   sizeof name - 1, name, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return error_set(
                error, STATUS_BAD_INPUT,
                "'%s' is stored with filter %d (%s): only gzip, shuffle and fletcher32 "
                "are read",
                t->name, (int)filter,
                hdf5_printable(printable, sizeof printable, name, sizeof name));
        if (H5Zfilter_avail(filter) <= 0)
            return error_set(error, STATUS_BAD_INPUT,
                             "'%s' is stored with filter %d, which this HDF5 library was built "
                             "without: store it without filters",
                             t->name, (int)filter);
        *compressed |= filter == H5Z_FILTER_DEFLATE;
    }
    return STATUS_OK;
}

/* All chunks exist, and the file is long enough for what they claim. */
static enum status check_chunks(struct hdf5_tensor *t, hid_t list, hid_t space, int64_t file_size,
                                struct error *error)
{
    bool compressed = false;
    enum status status = check_filters(t, list, &compressed, error);
    if (status != STATUS_OK)
        return status;
    hsize_t chunk[HDF5_RANK_MAX];
    if (H5Pget_chunk(list, HDF5_RANK_MAX, chunk) != t->rank)
        return hdf5_error(error, STATUS_BAD_INPUT, "the chunks of '%s' cannot be read", t->name);
    int64_t chunks = 1, bytes = (int64_t)t->stored_size;
    bool fits = true;
    for (int i = 0; i < t->rank; i++) {
        if (chunk[i] == 0 || chunk[i] > UINT32_MAX)
            return error_set(error, STATUS_BAD_INPUT, "'%s' has chunks of size %llu on axis %d",
                             t->name, (unsigned long long)chunk[i], i);
        const int64_t size = (int64_t)chunk[i];
        fits &= !__builtin_mul_overflow(chunks, (t->shape[i] - 1) / size + 1, &chunks);
        fits &= !__builtin_mul_overflow(bytes, size, &bytes);
    }
    t->chunk_bytes = fits ? bytes : INT64_MAX;
    fits &= !__builtin_mul_overflow(bytes, chunks, &bytes);
    if (!fits)
        bytes = INT64_MAX;
    if (bytes / (compressed ? DEFLATE_RATIO : 1) > file_size)
        return claims_too_much(t, bytes, file_size, error);
    hsize_t written = 0;
    if (H5Dget_num_chunks(t->dataset, space, &written) < 0)
        return hdf5_error(error, STATUS_BAD_INPUT,
                          "the chunks of '%s' cannot be counted: the file "
                          "is damaged",
                          t->name);
    if (written != (hsize_t)chunks)
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s' is not whole: %llu of its %lld chunks were written", t->name,
                         (unsigned long long)written, (long long)chunks);
    return STATUS_OK;
}

static enum status check_storage(struct hdf5_tensor *t, hid_t list, hid_t space,
                                 H5D_layout_t layout, int64_t file_size, struct error *error)
{
    const int64_t bytes = t->count * (int64_t)t->stored_size; /* count <= INT64_MAX / 8 */
    if (bytes == 0)
        return STATUS_OK;
    if (layout == H5D_CHUNKED)
        return check_chunks(t, list, space, file_size, error);
    if (bytes > file_size)
        return claims_too_much(t, bytes, file_size, error);
    const hsize_t stored = H5Dget_storage_size(t->dataset);
    if (stored != (hsize_t)bytes)
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s' is not whole: %llu of its %lld bytes were written", t->name,
                         (unsigned long long)stored, (long long)bytes);
    if (layout == H5D_CONTIGUOUS) {
        const haddr_t offset = H5Dget_offset(t->dataset);
        if (offset == HADDR_UNDEF)
            return error_set(error, STATUS_BAD_INPUT, "'%s' is not whole: it was never written",
                             t->name);
        if (offset > (haddr_t)(file_size - bytes))
            return claims_too_much(t, bytes, file_size, error);
    }
    return STATUS_OK;
}

/* Layouts that lead out of the file are refused before anything else is asked of the dataset. */
static enum status check_layout(const struct hdf5_tensor *t, hid_t list, H5D_layout_t *layout,
                                struct error *error)
{
    *layout = H5Pget_layout(list);
    switch (*layout) {
    case H5D_COMPACT:
    case H5D_CHUNKED:
        return STATUS_OK;
    case H5D_CONTIGUOUS:
        if (H5Pget_external_count(list) == 0)
            return STATUS_OK;
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s' keeps its data in another file, which is never followed: copy the "
                         "data into the file",
                         t->name);
    case H5D_VIRTUAL:
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s' is a virtual dataset, which is never followed: copy the data into "
                         "the file",
                         t->name);
    default:
        return hdf5_error(error, STATUS_BAD_INPUT, "the layout of '%s' cannot be read", t->name);
    }
}

/* ---- open, close ----------------------------------------------------------------------------- */

enum status hdf5_tensor_open(struct hdf5_tensor *t, hid_t file, int64_t file_size, const char *path,
                             enum tensor_value value, bool *present, struct error *error)
{
    hid_t access = 0, list = 0, space = 0;
    H5D_layout_t layout;
    enum hdf5_kind kind = HDF5_ABSENT;
    uint64_t crc = 0;

    memset(t, 0, sizeof *t);
    t->value = value;
    snprintf(t->name, sizeof t->name, "/%s", path);
    *present = false;
    enum status status = hdf5_find(file, path, &kind, error);
    if (status != STATUS_OK || kind == HDF5_ABSENT)
        return status;
    if (kind != HDF5_DATASET)
        return error_set(error, STATUS_BAD_INPUT, "'%s' is a group: it must be a dataset", t->name);

    access = hdf5_link_access(H5P_DATASET_ACCESS);
    if (access < 0 || H5Pset_chunk_cache(access, 12421, CHUNK_CACHE_BYTES, 1.0) < 0) {
        status = hdf5_error(error, STATUS_ENVIRONMENT, "no property list for datasets");
        goto out;
    }
    t->dataset = H5Dopen2(file, path, access);
    if (t->dataset > 0)
        list = H5Dget_create_plist(t->dataset);
    if (t->dataset <= 0 || list <= 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "'%s' cannot be opened", t->name);
        goto out;
    }
    status = check_layout(t, list, &layout, error);
    if (status != STATUS_OK)
        goto out;
    t->stored = H5Dget_type(t->dataset);
    status = check_type(t, error);
    if (status != STATUS_OK)
        goto out;
    t->stored_size = H5Tget_size(t->stored);
    space = H5Dget_space(t->dataset);
    if (space <= 0) {
        status = hdf5_error(error, STATUS_BAD_INPUT, "the shape of '%s' cannot be read", t->name);
        goto out;
    }
    status = read_shape(t, space, error);
    if (status == STATUS_OK)
        status = check_storage(t, list, space, layout, file_size, error);
    if (status == STATUS_OK)
        status = hdf5_attribute_uint64(t->dataset, "crc32", &crc, &t->has_crc, error);
    if (status == STATUS_OK && crc > UINT32_MAX)
        status = error_set(error, STATUS_BAD_INPUT, "attribute 'crc32' is '%llu': not 32 bits",
                           (unsigned long long)crc);
    t->crc = (uint32_t)crc;
    *present = status == STATUS_OK;
out:
    if (space > 0)
        H5Sclose(space);
    if (list > 0)
        H5Pclose(list);
    if (access > 0)
        H5Pclose(access);
    if (status != STATUS_OK)
        hdf5_tensor_close(t);
    return status;
}

void hdf5_tensor_close(struct hdf5_tensor *t)
{
    if (t->stored > 0)
        H5Tclose(t->stored);
    if (t->dataset > 0)
        H5Dclose(t->dataset);
    t->stored = t->dataset = 0;
}
