/* Results as JSON objects, one a line: the schema is written down in results/README.md, reading is
 * harness/record_read.h.
 *
 * Keys are flat, so that jq, pandas and DuckDB read a file without being told about it. A key is
 * never given another meaning; where one must be, RECORD_SCHEMA goes up. */
#ifndef ASSAY_HARNESS_RECORD_H
#define ASSAY_HARNESS_RECORD_H

#include <jansson.h>

#include "harness/machine.h"
#include "harness/provenance.h"
#include "harness/run_list.h"

#define RECORD_SCHEMA 1

/* What every record of one run shares. */
struct record_context {
    const struct run_list *list;
    struct machine machine;
    struct provenance provenance;
    char run[20]; /* names this run; records of one run may have been interleaved */
};

/* Fills machine, provenance and run. */
void record_context_init(struct record_context *context, const struct run_list *list,
                         const char *commit, const char *commit_time);

/* The keys of `verify --json`; NULL when out of memory. Numbers that JSON cannot hold (infinity,
 * NaN) are null. */
json_t *record_verdict(const struct record_context *context, const struct case_source *source,
                       const struct trial *trial);

/* The keys of `bench --json`: machine, commit, verdict, times. */
json_t *record_bench(const struct record_context *context, const struct case_source *source,
                     const struct trial *trial);

/* The keys that records of any kind begin with: schema, kind, time, run, commit, machine. `kind` is
 * "bench", "calibration", ... */
json_t *record_begin(const struct record_context *context, const char *kind);

/* A number, or null where JSON has no word for it. */
json_t *record_number(double value);

/* A text, or null where it is empty; bytes that are not UTF-8 become '?'. */
json_t *record_text(const char *text);

/* Prints one line. */
void record_print(const json_t *record);

/* Whether lines can be appended to a file, for asking before there is one: STATUS_BAD_INPUT where
 * they cannot. The file is not made. */
enum status record_check(const char *path, struct error *error);

/* Appends one line to a file: whole or not at all, under a lock (flock), so that several writers
 * may share the file. A torn line that a killed writer left is ended first, so that it spoils
 * nothing but itself. STATUS_ENVIRONMENT otherwise, with the file as it was. */
enum status record_append(const char *path, const json_t *record, struct error *error);

#endif
