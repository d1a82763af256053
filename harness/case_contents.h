/* What a case file or an output file holds, read in this very process. The program reads by way of
 * harness/case_reader.h, which does this in a child; the rules are those of harness/case_file.h. */
#ifndef ASSAY_HARNESS_CASE_CONTENTS_H
#define ASSAY_HARNESS_CASE_CONTENTS_H

#include <hdf5.h>
#include <stddef.h>

#include "harness/case_file.h"
#include "harness/hdf5_tensor.h"

enum case_tensor {
    CASE_INPUT,
    CASE_WEIGHT,
    CASE_CONV_BIAS,
    CASE_BIAS,
    CASE_EXPECTED,
    CASE_OUTPUT,
    CASE_TENSORS
};

/* A file, or where `image` is not NULL the `size` bytes there. */
struct case_place {
    const char *path;
    const void *image;
    size_t size;
};

struct case_about {
    struct problem problem;
    struct case_expected expected;
    struct case_provenance provenance;
};

struct case_contents {
    hid_t file;
    struct case_about about;
    struct hdf5_tensor tensors[CASE_TENSORS]; /* those that the file has are open */
};

/* The messages do not name the file. */
enum status case_contents_open(struct case_contents *contents, const struct case_place *place,
                               struct error *error);
enum status case_contents_open_output(struct case_contents *contents,
                                      const struct case_place *place, const struct problem *problem,
                                      struct error *error);
void case_contents_close(struct case_contents *contents);

/* The attribute `record` of a failure capsule, to `record` [size]. */
enum status case_contents_record(struct case_contents *contents, char *record, size_t size,
                                 struct error *error);

/* *checked: the number of tensors that carry a checksum. `pulse` may be NULL. */
enum status case_contents_check_sums(struct case_contents *contents, tensor_pulse pulse,
                                     int *checked, struct error *error);

#endif
