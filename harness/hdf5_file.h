/* Opening an HDF5 file that may be anything. */
#ifndef ASSAY_HARNESS_HDF5_FILE_H
#define ASSAY_HARNESS_HDF5_FILE_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

/* Opens `path`, which must be a regular file, for reading, without locks; *size is its length in
 * bytes. *file is 0 unless STATUS_OK. */
enum status hdf5_file_open(hid_t *file, const char *path, int64_t *size, struct error *error);

/* The same for the `size` bytes at `image`, which are copied. */
enum status hdf5_file_open_image(hid_t *file, const char *name, const void *image, size_t size,
                                 struct error *error);

#endif
