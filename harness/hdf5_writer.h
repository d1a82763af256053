/* Writing HDF5 files of contiguous tensors, streamed, that appear only when they are whole. What
 * case_writer and output_writer share.
 *
 * HDF5 writes the structure of the file only, and into memory; the tensors' bytes are written
 * beside it, at the offsets that HDF5 chose, and commit puts both together:
 *
 *     in memory    structure |  (hole)  | structure |  (hole)  | ...
 *     on disk      (hole)    |  tensor  | (hole)    |  tensor  | ...
 *
 * NOTE: HDF5 1.10 must not meet a full disk: after a failed flush the file can never be closed, and
 * the library crashes on it when the process ends. */
#ifndef ASSAY_HARNESS_HDF5_WRITER_H
#define ASSAY_HARNESS_HDF5_WRITER_H

#include <hdf5.h>
#include <stdint.h>

#include "harness/hdf5_tensor.h"
#include "harness/new_file.h"
#include "ref/status.h"

/* Tensors of one file at most. */
#define HDF5_WRITER_TENSORS 8

struct hdf5_writer {
    struct new_file file;
    hid_t hdf5; /* 0 = closed */
    int memory; /* the file that HDF5 writes; valid where hdf5 is open */
    struct {
        int64_t offset, bytes;
    } tensors[HDF5_WRITER_TENSORS]; /* in order of creation, and so of offset */
    int count;
};

/* A dataset that is appended to, row by row of its first axis. */
struct tensor_writer {
    hid_t dataset; /* 0 = none */
    hid_t stored;  /* borrowed from the library */
    char name[48];
    int rank;
    int64_t shape[HDF5_RANK_MAX];
    size_t row_bytes;
    int64_t row;    /* elements of one row */
    int64_t next;   /* rows written */
    int64_t offset; /* of row `next` in the file */
    uint32_t crc;
};

/* Creates the file and reserves `bytes` for it. */
enum status hdf5_writer_init(struct hdf5_writer *writer, const char *path, int64_t bytes,
                             struct error *error);

/* Creates dataset `name` of little-endian float32 or float64. */
enum status hdf5_writer_tensor(struct hdf5_writer *writer, struct tensor_writer *tensor,
                               const char *name, enum tensor_value value, const int64_t *shape,
                               int rank, struct error *error);

/* Appends `rows` rows: float or double as the tensor is stored. */
enum status hdf5_writer_append(struct hdf5_writer *writer, struct tensor_writer *tensor,
                               const void *rows, int64_t count, struct error *error);

/* Asserts that all rows were written, stores the checksum and closes the dataset. */
enum status hdf5_writer_finish_tensor(struct hdf5_writer *writer, struct tensor_writer *tensor,
                                      struct error *error);

/* Root attributes. */
enum status hdf5_writer_string(struct hdf5_writer *writer, const char *name, const char *text,
                               struct error *error);
/* An array of `count` elements; a scalar where count is 0. `memory` and `stored` are HDF5's types.
 */
enum status hdf5_writer_attribute(struct hdf5_writer *writer, const char *name, hid_t stored,
                                  hid_t memory, const void *values, int count, struct error *error);

/* "'path': what: the library's reason". Always STATUS_ENVIRONMENT. */
enum status hdf5_writer_failed(struct hdf5_writer *writer, const char *what, struct error *error);

enum status hdf5_writer_commit(struct hdf5_writer *writer, struct error *error);
/* Closes the tensors that are still open, too. */
void hdf5_writer_release(struct hdf5_writer *writer);

#endif
