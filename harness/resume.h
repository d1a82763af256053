/* Verdicts that an earlier run has left in its file of results (`verify --out FILE`), so that a run
 * that was killed goes on where it ended (`--resume`). A trial is known by the line that runs it
 * again, which names implementation, case, data, class and tolerance. */
#ifndef ASSAY_HARNESS_RESUME_H
#define ASSAY_HARNESS_RESUME_H

#include "harness/comparator.h"

struct resume {
    struct resume_entry *entries; /* sorted by line */
    size_t count;
};

/* Reads the file's records; lines that are none (a torn last one) are left out. A file that is not
 * there is an empty one. */
enum status resume_read(struct resume *resume, const char *path, struct error *error);
void resume_release(struct resume *resume);

/* True, with its verdict, where the trial is among them. */
bool resume_find(const struct resume *resume, const char *reproduce, enum verdict *verdict);

#endif
