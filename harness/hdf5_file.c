#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/hdf5_file.h"
#include "harness/hdf5_util.h"

/* HDF5's signature stands at byte 0, 512, 1024, 2048, ... */
static bool has_signature(int fd, int64_t size)
{
    static const char signature[8] = "\211HDF\r\n\032\n";
    for (int64_t at = 0; at <= size - 8; at = at ? 2 * at : 512) {
        char found[8];
        if (pread(fd, found, sizeof found, at) == sizeof found &&
            memcmp(found, signature, sizeof found) == 0)
            return true;
    }
    return false;
}

/* A regular file with HDF5's signature, and its size. */
static enum status check_file(const char *path, int64_t *size, struct error *error)
{
    enum status status = STATUS_OK;
    struct stat info;
    /* O_NONBLOCK: a FIFO must not hang us. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const bool environment =
            errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO;
        return error_set(error, environment ? STATUS_ENVIRONMENT : STATUS_BAD_INPUT,
                         "cannot be opened: %s", strerror(errno));
    }
    if (fstat(fd, &info) < 0)
        status = error_set(error, STATUS_ENVIRONMENT, "cannot be opened: %s", strerror(errno));
    else if (S_ISDIR(info.st_mode))
        status = error_set(error, STATUS_BAD_INPUT, "a directory: it must be an HDF5 file");
    else if (!S_ISREG(info.st_mode))
        status = error_set(error, STATUS_BAD_INPUT, "not a regular file");
    else if (info.st_size == 0)
        status = error_set(error, STATUS_BAD_INPUT, "empty: it must be an HDF5 file");
    else if (!has_signature(fd, info.st_size))
        status = error_set(error, STATUS_BAD_INPUT, "not an HDF5 file");
    else
        *size = info.st_size;
    close(fd);
    return status;
}

/* Opens a path, or where `image` is not NULL the `size` bytes there. */
static enum status open_hdf5(hid_t *file, const char *path, const void *image, int64_t size,
                             struct error *error)
{
    hdf5_init();
    *file = 0;
    enum status status = STATUS_OK;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0 || H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 ||
        (image && (H5Pset_fapl_core(access, 1 << 16, 0) < 0 ||
                   H5Pset_file_image(access, (void *)image, (size_t)size) < 0)) ||
#if H5_VERSION_GE(1, 10, 7)
        /* We only read, and some network file systems know no locks. */
        (!image && H5Pset_file_locking(access, false, true) < 0) ||
#endif
        false)
        status = hdf5_error(error, STATUS_ENVIRONMENT, "no property list for files");
    if (status == STATUS_OK) {
        *file = H5Fopen(path, H5F_ACC_RDONLY, access);
        if (*file <= 0) {
            *file = 0;
            status = hdf5_error(error, STATUS_BAD_INPUT, "damaged or truncated");
        }
    }
    if (access > 0)
        H5Pclose(access);
    return status;
}

enum status hdf5_file_open(hid_t *file, const char *path, int64_t *size, struct error *error)
{
    *file = 0;
    const enum status status = check_file(path, size, error);
    return status == STATUS_OK ? open_hdf5(file, path, NULL, *size, error) : status;
}

enum status hdf5_file_open_image(hid_t *file, const char *name, const void *image, size_t size,
                                 struct error *error)
{
    return open_hdf5(file, name, image, (int64_t)size, error);
}
