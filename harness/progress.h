/* Progress of long work: one line on stderr that is rewritten, only on a terminal. */
#ifndef ASSAY_HARNESS_PROGRESS_H
#define ASSAY_HARNESS_PROGRESS_H

#include <stdint.h>

struct progress {
    const char *what; /* e.g. "verify" */
    const char *unit; /* of what is counted, e.g. "images" */
    int64_t total, done;
    double start, shown;
    int active;
};

void progress_begin(struct progress *progress, const char *what, const char *unit, int64_t total);
void progress_step(struct progress *progress, int64_t more);
void progress_end(struct progress *progress);

#endif
