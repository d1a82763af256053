/* What every use of HDF5 here shares: its errors in one line, checked links, checked attributes.
 *
 * An hid_t that is not open is 0 (HDF5 never hands out 0), so a zeroed struct of them is closed. */
#ifndef ASSAY_HARNESS_HDF5_UTIL_H
#define ASSAY_HARNESS_HDF5_UTIL_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

/* Starts the library and stops it from printing. Call before anything else of HDF5. */
void hdf5_init(void);

/* Sets `error` to the message followed by HDF5's innermost reason in brackets. The status is
 * STATUS_ENVIRONMENT where that reason is a failed system call, `status` otherwise. */
enum status hdf5_error(struct error *error, enum status status, const char *format, ...)
    ASSAY_PRINTF(3, 4);

/* Copies `text`, of at most `length` bytes, to out as one printable line: what is not printable
 * ASCII becomes '?', what does not fit in `size` bytes is cut and marked with "...". Returns out.
 */
const char *hdf5_printable(char *out, size_t size, const char *text, size_t length);

/* A dataset or link access property list, `cls` H5P_DATASET_ACCESS or H5P_LINK_ACCESS, with which
 * no external link is followed, and at most 16 soft links. */
hid_t hdf5_link_access(hid_t cls);

enum hdf5_kind { HDF5_ABSENT, HDF5_GROUP, HDF5_DATASET };

/* What `path` ("input", "params/bias") is in `file`. Each part of the path is looked at in turn and
 * refused by name where it is an external or user-defined link, a soft link that leads nowhere or
 * in circles, or neither a group nor a dataset. HDF5_ABSENT is not an error. */
enum status hdf5_find(hid_t file, const char *path, enum hdf5_kind *kind, struct error *error);

/* A short name of a stored type, "float32", "uint8", "big-endian float64", "string", "compound". */
const char *hdf5_type_name(char *out, size_t size, hid_t type);

/* Whether a stored type is an integer or a binary float of at most 64 bits whose parts lie inside
 * it, in little or big endian order. NOTE: HDF5 1.10 reads the parts of a damaged type as they are,
 * and its conversions then write past their buffers: convert no type that was not asked about here.
 */
bool hdf5_is_number(hid_t type);

/* Attributes of `object`. *count or *present says how much was found: 0 or false where the
 * attribute is missing, which is not an error. Wrong classes, more than `most` elements, and values
 * that do not fit are refused by name. Strings may be of fixed or variable length, one element. */
enum status hdf5_attribute_int(hid_t object, const char *name, int64_t *values, int most,
                               int *count, struct error *error);
enum status hdf5_attribute_uint64(hid_t object, const char *name, uint64_t *value, bool *present,
                                  struct error *error);
enum status hdf5_attribute_double(hid_t object, const char *name, double *value, bool *present,
                                  struct error *error);
enum status hdf5_attribute_string(hid_t object, const char *name, char *out, size_t size,
                                  bool *present, struct error *error);

#endif
