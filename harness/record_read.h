/* Reading records back.
 *
 * Lines are scanned by a small reader that knows the keys below and nothing else; whatever it does
 * not understand at once (escapes, text beyond ASCII, deep nesting) is given to jansson, which
 * decides. A line that is no JSON object (torn by a killed writer), or no record (foreign), is
 * skipped and named by file and line; the rest stands. Lines that occur twice, byte for byte (a
 * union merge makes such), count once. A line of `audit --json` becomes one record for each rule
 * that it tells of, of kind "audit". */
#ifndef ASSAY_HARNESS_RECORD_READ_H
#define ASSAY_HARNESS_RECORD_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/text_pool.h"
#include "ref/status.h"

/* The keys that are read, as the schema names them. Texts are pooled: equal ones are the same
 * pointer; NULL where null or absent. Numbers are NaN where null or absent. */
#define RECORD_TEXTS(X)                                                                            \
    X(kind)                                                                                        \
    X(time)                                                                                        \
    X(run)                                                                                         \
    X(version)                                                                                     \
    X(commit)                                                                                      \
    X(commit_time)                                                                                 \
    X(binary)                                                                                      \
    X(machine)                                                                                     \
    X(cpu)                                                                                         \
    X(os)                                                                                          \
    X(libraries)                                                                                   \
    X(device)                                                                                      \
    X(driver)                                                                                      \
    X(throttle)                                                                                    \
    X(problem)                                                                                     \
    X(implementation)                                                                              \
    X(class)                                                                                       \
    X(fill)                                                                                        \
    X(verdict)                                                                                     \
    X(reason)                                                                                      \
    X(note)                                                                                        \
    X(bound_by)                                                                                    \
    X(mutant)                                                                                      \
    X(stage)                                                                                       \
    X(rule)                                                                                        \
    X(outcome)

#define RECORD_NUMBERS(X)                                                                          \
    X(schema)                                                                                      \
    X(cores)                                                                                       \
    X(memory_gb)                                                                                   \
    X(threads)                                                                                     \
    X(max_abs_error)                                                                               \
    X(error_over_bound)                                                                            \
    X(median_s)                                                                                    \
    X(ci_low_s)                                                                                    \
    X(ci_high_s)                                                                                   \
    X(gflops)                                                                                      \
    X(gbytes_per_s)                                                                                \
    X(ceiling_gflops)                                                                              \
    X(ceiling_copy_gbytes_per_s)                                                                   \
    X(ceiling_write_gbytes_per_s)                                                                  \
    X(ceiling_fp16_tflops)                                                                         \
    X(ceiling_tf32_tflops)                                                                         \
    X(ceiling_fp32_tflops)                                                                         \
    X(floor_s)                                                                                     \
    X(rounds)                                                                                      \
    X(interleaved_noise)                                                                           \
    X(separate_noise)                                                                              \
    X(smallest_visible)

struct record {
#define X(name) const char *name;
    RECORD_TEXTS(X)
#undef X
    const char *case_name; /* "case" */
#define X(name) double name;
    RECORD_NUMBERS(X)
#undef X
    bool dirty;
    int64_t samples; /* first in record_set.samples */
    int64_t sample_count;
    const char *file; /* pooled */
    int64_t line;     /* from 1 */
    uint64_t hash;    /* of the line's text */
};

struct record_set {
    struct record *records;
    int64_t count, capacity;
    double *samples;
    int64_t sample_count, sample_capacity;
    int64_t calibrations; /* records of that kind */
    int64_t skipped;      /* torn and foreign lines */
    int64_t duplicates;   /* lines that were already there */
    struct text_pool texts;
    uint64_t *seen; /* hashes of lines */
    size_t seen_count, seen_size;
};

/* Appends the records of a file, or of every *.jsonl of a folder, in the order of their names. The
 * first few skipped lines of each file are printed on stderr. STATUS_BAD_INPUT where the path
 * cannot be read; a file without any record is legal. */
enum status record_set_read(struct record_set *set, const char *path, struct error *error);

/* From here on, lines count again that were already there: for records of another side. */
void record_set_forget(struct record_set *set);

/* A zeroed set is legal. */
void record_set_release(struct record_set *set);

/* The samples of one record, in seconds; record->sample_count of them. */
static inline const double *record_samples(const struct record_set *set, const struct record *r)
{
    return set->samples + r->samples;
}

/* One line: STATUS_OK, or STATUS_BAD_INPUT with the reason, and the set as it was. For tests. */
enum status record_set_add_line(struct record_set *set, const char *line, size_t n,
                                const char *file, int64_t number, struct error *error);

#endif
