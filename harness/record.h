/* Results as JSON objects, one a line. */
#ifndef ASSAY_HARNESS_RECORD_H
#define ASSAY_HARNESS_RECORD_H

#include <jansson.h>

#include "harness/machine.h"
#include "harness/run_list.h"

/* What every record of one run shares. */
struct record_context {
    const struct run_list *list;
    struct machine machine;
    const char *commit;
};

/* The keys of `verify --json`; NULL when out of memory. Numbers that JSON cannot hold (infinity,
 * NaN) are null. */
json_t *record_verdict(const struct record_context *context, const struct case_source *source,
                       const struct trial *trial);

/* The keys of `bench --json`: those of the verdict that matter, and the times. */
json_t *record_bench(const struct record_context *context, const struct case_source *source,
                     const struct trial *trial);

/* Prints one line. */
void record_print(const json_t *record);

/* Appends one line to a file: whole or not at all, under a lock. STATUS_ENVIRONMENT otherwise. */
enum status record_append(const char *path, const json_t *record, struct error *error);

#endif
