/* A failure capsule: one case file that holds all it takes to look at a failure, and to run it
 * again anywhere.
 *
 *     what a case file holds        inputs, parameters, /expected (float64), provenance
 *     /got                          what the implementation gave in its last run
 *     /bound                        the typical bound of the class it claimed
 *     attribute `record`            the verdict, as `verify --json` prints it, machine and commit
 *     attribute `first_image`       of the original batch
 *
 * NOTE: where the last run was on other input (trial.h, 3), /got is the output for that, x rotated
 * by one element; /input and /expected are the case's.
 *
 * A batch whose tensors exceed CAPSULE_BYTES is cut to the images around the worst element. */
#ifndef ASSAY_HARNESS_CAPSULE_H
#define ASSAY_HARNESS_CAPSULE_H

#include "harness/trial.h"

#define CAPSULE_BYTES ((int64_t)256 << 20)
#define CAPSULE_RECORD_SIZE 16384

/* Whether `folder` is one, or can be made: STATUS_BAD_INPUT where not. It is not made. */
enum status capsule_check(const char *folder, struct error *error);

/* Writes `folder`/capsule-IMPLEMENTATION-CASE.h5, making the folder where it is not there, and puts
 * the path into `path`. An earlier capsule of the same trial is replaced; any other file stays,
 * and the capsule is called ...-2.h5 and so on. `record` is a JSON object. Visits only:
 * trial->arena is read. */
enum status capsule_write(const char *folder, const struct case_source *source,
                          const struct trial *trial, const char *record, char *path,
                          size_t path_size, struct error *error);

#endif
