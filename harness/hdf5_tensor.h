/* A stored tensor, read without trust and without loss.
 *
 * Opening checks everything but the values: type, layout, filters, and that the file can hold the
 * bytes that the dataset claims. The rules are those of harness/case_file.h. */
#ifndef ASSAY_HARNESS_HDF5_TENSOR_H
#define ASSAY_HARNESS_HDF5_TENSOR_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "ref/status.h"

#define HDF5_RANK_MAX 4

enum tensor_value { TENSOR_FLOAT32, TENSOR_FLOAT64 };

/* How values get from the file to the caller. */
enum tensor_route {
    ROUTE_DIRECT, /* HDF5 converts; the stored type fits in the target's */
    ROUTE_DOUBLE, /* read as double, each value checked */
    ROUTE_INT64,  /* read as int64_t, each value checked */
    ROUTE_UINT64  /* read as uint64_t, each value checked */
};

struct hdf5_tensor {
    hid_t dataset; /* 0 = not open */
    hid_t stored;  /* its type in the file */
    char name[48]; /* with the leading '/', for messages */
    char type[48];
    int rank; /* 0 .. HDF5_RANK_MAX */
    int64_t shape[HDF5_RANK_MAX];
    int64_t count;   /* product of the shape */
    double roundoff; /* see struct case_expected */
    double quantum;
    enum tensor_value value;
    enum tensor_route route;
    size_t stored_size;  /* bytes of one element in the file */
    int64_t chunk_bytes; /* of one chunk; 0 where there are none */
    bool has_crc;
    uint32_t crc; /* attribute `crc32` */
};

/* Opens dataset `path` ("params/bias", no leading '/') of `file`, which is file_size bytes long.
 * *present is false where there is none, which is not an error; tensor->dataset is then 0. */
enum status hdf5_tensor_open(struct hdf5_tensor *tensor, hid_t file, int64_t file_size,
                             const char *path, enum tensor_value value, bool *present,
                             struct error *error);
void hdf5_tensor_close(struct hdf5_tensor *tensor);

/* STATUS_OK where the shape is the `rank` sizes wanted; else a message with both. */
enum status hdf5_tensor_expect_shape(const struct hdf5_tensor *tensor, const int64_t *shape,
                                     int rank, struct error *error);

/* The shape as "[2, 3, 4]". */
const char *hdf5_shape_name(char *out, size_t size, const int64_t *shape, int rank);

/* Takes elements [at, at + length) of a read, which lie in its window. */
typedef enum status (*tensor_sink)(void *data, int64_t at, int64_t length, struct error *error);

/* Called now and then during a long read. */
typedef void (*tensor_pulse)(void);

/* Rows [first, first + count) of the first axis (of a scalar: 0, 1) in row-major order: piece by
 * piece into `window`, which holds `elements`, floats for TENSOR_FLOAT32 and doubles for
 * TENSOR_FLOAT64; `sink` is called for each piece. */
enum status hdf5_tensor_read(struct hdf5_tensor *tensor, int64_t first, int64_t count, void *window,
                             int64_t elements, tensor_sink sink, void *data, struct error *error);

/* Reads the stored bytes and compares their CRC-32 with the attribute's. Only where has_crc.
 * `pulse` may be NULL. */
enum status hdf5_tensor_check_crc(struct hdf5_tensor *tensor, tensor_pulse pulse,
                                  struct error *error);

#endif
