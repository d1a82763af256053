/* Verdicts that an earlier run has left in its file of results (`verify --out FILE`), so that a run
 * that was killed goes on where it ended (`--resume`). A trial is known by the line that runs it
 * again, which names implementation, case, data, class and tolerance, and by what the files that
 * this line names were then. */
#ifndef ASSAY_HARNESS_RESUME_H
#define ASSAY_HARNESS_RESUME_H

#include <jansson.h>

#include "harness/case_source.h"
#include "harness/comparator.h"

struct resume {
    struct resume_entry *entries; /* sorted by line, of one line in the order of the file */
    size_t count;
};

/* This program (its hash, of struct provenance), the library or the files among a command's words
 * (their contents' hashes), a case file (its size and time). Files that a command finds by itself
 * are not known. */
#define RESUME_IDENTITY_SIZE 256
void resume_identity(const char *program, const struct case_source *source,
                     const char *implementation, char identity[RESUME_IDENTITY_SIZE]);

/* Reads the file's records; lines that are none (a torn last one) are left out. A file that is not
 * there is an empty one. */
enum status resume_read(struct resume *resume, const char *path, struct error *error);
void resume_release(struct resume *resume);

/* The record of the trial, the resume's own, and its verdict; NULL where it is not among them. */
const json_t *resume_find(const struct resume *resume, const char *reproduce, const char *identity,
                          enum verdict *verdict);

#endif
