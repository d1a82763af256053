/* The report: what the newest commit of each series is like, and how it came to be so. */
#ifndef ASSAY_HARNESS_REPORT_H
#define ASSAY_HARNESS_REPORT_H

#include <stdio.h>

#include "harness/timeline.h"

/* One series as the report sees it. */
struct report_row {
    struct timeline timeline;
    const struct timeline_point *last; /* its newest commit */
    const struct record *record;       /* and that commit's record */
};

struct report {
    const struct record_set *set;
    struct report_row *rows; /* in the order of series_build() */
    int64_t count;
};

enum status report_init(struct report *report, const struct record_set *set, bool dirty,
                        struct error *error);
void report_release(struct report *report);

/* The whole page. */
void report_write(FILE *out, const struct report *report, const char *title);

/* Its sections; each writes nothing, or says why, where there is nothing to show. */
void report_verdicts(FILE *out, const struct report *report);
void report_kill_matrix(FILE *out, const struct report *report);
void report_machines(FILE *out, const struct report *report);
void report_ladder(FILE *out, const struct report *report);
void report_roofline(FILE *out, const struct report *report);
void report_errors(FILE *out, const struct report *report);
void report_history(FILE *out, const struct report *report);

/* The row after the last one of row i's machine. */
int64_t report_machine_end(const struct report *report, int64_t i);

#endif
