#include "harness/hdf5_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "harness/hdf5_util.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the checksum is of little-endian bytes: swap them here first"
#endif

/* Tensors of this size and more start on a page. */
#define ALIGN_FROM 65536
#define ALIGN_TO 4096

enum status hdf5_writer_failed(struct hdf5_writer *w, const char *what, struct error *error)
{
    return hdf5_error(error, STATUS_ENVIRONMENT, "'%.300s': %s", w->file.path, what);
}

/* Copies `bytes` bytes at `offset` of one file to the same place in another; false with errno. */
static bool copy_bytes(int from, int to, int64_t offset, int64_t bytes)
{
    char buffer[16384];
    while (bytes > 0) {
        const size_t most = bytes < (int64_t)sizeof buffer ? (size_t)bytes : sizeof buffer;
        const ssize_t got = pread(from, buffer, most, offset);
        if (got == 0)
            return true; /* the rest was never written */
        if (got < 0 || !new_file_write(to, buffer, got, offset))
            return false;
        offset += got;
        bytes -= got;
    }
    return true;
}

/* From here on HDF5 writes to memory: its descriptor is made to name another file. */
static enum status redirect(struct hdf5_writer *w, struct error *error)
{
    int *fd = NULL;
    struct stat info;
    w->memory = memfd_create("case file", MFD_CLOEXEC);
    if (w->memory < 0 || fstat(w->file.fd, &info) < 0 ||
        !copy_bytes(w->file.fd, w->memory, 0, info.st_size) ||
        H5Fget_vfd_handle(w->hdf5, H5P_DEFAULT, (void **)&fd) < 0 || dup2(w->memory, *fd) < 0)
        return hdf5_writer_failed(w, "cannot be prepared in memory", error);
    return STATUS_OK;
}

enum status hdf5_writer_init(struct hdf5_writer *w, const char *path, int64_t bytes,
                             struct error *error)
{
    memset(w, 0, sizeof *w);
    w->memory = -1;
    hdf5_init();
    enum status status = new_file_init(&w->file, path, error);
    if (status != STATUS_OK)
        return status;
    status = new_file_reserve(&w->file, bytes, error);
    if (status != STATUS_OK) {
        hdf5_writer_release(w);
        return status;
    }
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0 || H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_fapl_sec2(access) < 0 ||
#if H5_VERSION_GE(1, 10, 7)
        H5Pset_file_locking(access, false, true) < 0 || /* nobody else knows the file */
#endif
        H5Pset_alignment(access, ALIGN_FROM, ALIGN_TO) < 0)
        status = hdf5_writer_failed(w, "no property list for files", error);
    if (status == STATUS_OK) {
        w->hdf5 = H5Fcreate(w->file.temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
        if (w->hdf5 <= 0) {
            w->hdf5 = 0;
            status = hdf5_writer_failed(w, "cannot be created", error);
        }
    }
    if (status == STATUS_OK)
        status = redirect(w, error);
    if (status == STATUS_OK) /* again: H5Fcreate cut the file */
        status = new_file_reserve(&w->file, bytes, error);
    if (access > 0)
        H5Pclose(access);
    if (status != STATUS_OK)
        hdf5_writer_release(w);
    return status;
}

/* ---- tensors --------------------------------------------------------------------------------- */

enum status hdf5_writer_tensor(struct hdf5_writer *w, struct tensor_writer *t, const char *name,
                               enum tensor_value value, const int64_t *shape, int rank,
                               struct error *error)
{
    assert(rank > 0 && rank <= HDF5_RANK_MAX);
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->stored = value == TENSOR_FLOAT32 ? H5T_IEEE_F32LE : H5T_IEEE_F64LE;
    t->rank = rank;
    t->row = 1;
    assert(w->count < HDF5_WRITER_TENSORS);
    hsize_t sizes[HDF5_RANK_MAX];
    for (int i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        sizes[i] = (hsize_t)shape[i];
        if (i > 0)
            t->row *= shape[i];
    }

    enum status status = STATUS_OK;
    const hid_t space = H5Screate_simple(rank, sizes, NULL);
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    if (space > 0 && list > 0 && H5Pset_layout(list, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(list, false) >= 0)
        t->dataset = H5Dcreate2(w->hdf5, name, t->stored, space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (t->dataset <= 0) {
        t->dataset = 0;
        status = hdf5_writer_failed(w, "a dataset cannot be created", error);
    }
    t->row_bytes = (size_t)t->row * H5Tget_size(t->stored);
    const int64_t bytes = (int64_t)t->row_bytes * shape[0];
    if (status == STATUS_OK && bytes > 0) {
        const haddr_t offset = H5Dget_offset(t->dataset);
        if (offset == HADDR_UNDEF)
            status = hdf5_writer_failed(w, "a dataset has no place in the file", error);
        t->offset = (int64_t)offset;
        /* Kept in the order of the file: HDF5 may put a small dataset into an earlier gap. */
        int k = w->count++;
        for (; k > 0 && w->tensors[k - 1].offset > t->offset; k--)
            w->tensors[k] = w->tensors[k - 1];
        w->tensors[k].offset = t->offset;
        w->tensors[k].bytes = bytes;
    }
    if (list > 0)
        H5Pclose(list);
    if (space > 0)
        H5Sclose(space);
    return status;
}

enum status hdf5_writer_append(struct hdf5_writer *w, struct tensor_writer *t, const void *rows,
                               int64_t count, struct error *error)
{
    assert(t->dataset > 0 && count >= 0 && count <= t->shape[0] - t->next);
    const int64_t bytes = (int64_t)t->row_bytes * count;
    if (bytes > 0) {
        if (!new_file_write(w->file.fd, rows, bytes, t->offset))
            return error_set(error, STATUS_ENVIRONMENT, "'%.300s': cannot be written: %s",
                             w->file.path, strerror(errno));
        t->crc = (uint32_t)crc32_z(t->crc, rows, (size_t)bytes);
    }
    t->next += count;
    t->offset += bytes;
    return STATUS_OK;
}

static bool write_attribute(hid_t object, const char *name, hid_t stored, hid_t memory,
                            const void *values, int count)
{
    const hsize_t size = (hsize_t)count;
    const hid_t space = count ? H5Screate_simple(1, &size, NULL) : H5Screate(H5S_SCALAR);
    hid_t attribute = 0;
    if (space > 0)
        attribute = H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool written = attribute > 0 && H5Awrite(attribute, memory, values) >= 0;
    if (attribute > 0)
        H5Aclose(attribute);
    if (space > 0)
        H5Sclose(space);
    return written;
}

enum status hdf5_writer_finish_tensor(struct hdf5_writer *w, struct tensor_writer *t,
                                      struct error *error)
{
    assert(t->next == t->shape[0]);
    if (!write_attribute(t->dataset, "crc32", H5T_STD_U32LE, H5T_NATIVE_UINT32, &t->crc, 0))
        return hdf5_writer_failed(w, "cannot be written", error);
    const herr_t closed = H5Dclose(t->dataset);
    t->dataset = 0;
    return closed < 0 ? hdf5_writer_failed(w, "cannot be written", error) : STATUS_OK;
}

/* ---- attributes ------------------------------------------------------------------------------ */

enum status hdf5_writer_attribute(struct hdf5_writer *w, const char *name, hid_t stored,
                                  hid_t memory, const void *values, int count, struct error *error)
{
    if (!write_attribute(w->hdf5, name, stored, memory, values, count))
        return hdf5_writer_failed(w, "cannot be written", error);
    return STATUS_OK;
}

enum status hdf5_writer_string(struct hdf5_writer *w, const char *name, const char *text,
                               struct error *error)
{
    /* Fixed length: the reader then needs none of HDF5's heap. */
    const hid_t type = H5Tcopy(H5T_C_S1);
    const size_t length = strlen(text);
    const bool written = type > 0 && H5Tset_size(type, length ? length : 1) >= 0 &&
                         H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 &&
                         write_attribute(w->hdf5, name, type, type, text, 0);
    if (type > 0)
        H5Tclose(type);
    return written ? STATUS_OK : hdf5_writer_failed(w, "cannot be written", error);
}

/* ---- end ------------------------------------------------------------------------------------- */

/* Copies what HDF5 wrote, everything outside the tensors, into the file. */
static bool copy_structure(struct hdf5_writer *w)
{
    struct stat info;
    if (fstat(w->memory, &info) < 0)
        return false;
    int64_t at = 0;
    for (int i = 0; i <= w->count; i++) {
        const int64_t end = i < w->count ? w->tensors[i].offset : info.st_size;
        if (!copy_bytes(w->memory, w->file.fd, at, end - at))
            return false;
        if (i < w->count)
            at = end + w->tensors[i].bytes;
    }
    return ftruncate(w->file.fd, info.st_size) == 0;
}

enum status hdf5_writer_commit(struct hdf5_writer *w, struct error *error)
{
    const herr_t closed = H5Fclose(w->hdf5);
    w->hdf5 = 0;
    if (closed < 0)
        return hdf5_writer_failed(w, "cannot be written", error);
    if (!copy_structure(w))
        return error_set(error, STATUS_ENVIRONMENT, "'%.300s': cannot be written: %s", w->file.path,
                         strerror(errno));
    return new_file_commit(&w->file, error);
}

void hdf5_writer_release(struct hdf5_writer *w)
{
    if (w->hdf5 > 0)
        H5Fclose(w->hdf5);
    if (w->file.path) {
        H5Eclear2(H5E_DEFAULT);
        if (w->memory >= 0)
            close(w->memory);
    }
    w->hdf5 = 0;
    w->memory = -1;
    new_file_release(&w->file);
}
