/* Suites: cases in a text file, one a line.
 *
 *     # comment
 *     NAME  CASE  [fill=NAME] [seed=N]
 *
 * CASE is a descriptor, or the path of a case file seen from the suite's folder. A CASE that begins
 * with `glob:` stands for every case file that matches, random:SEED/FIRST-LAST for that many seeded
 * random problems. NAME is unique; `*` in it becomes the file's name without its ending, or the
 * number of the random problem. */
#ifndef ASSAY_HARNESS_SUITE_H
#define ASSAY_HARNESS_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

/* Random problems of one range. */
#define RANDOM_MOST 1000000

struct suite_entry {
    char *name;
    char *text;    /* a descriptor or a path */
    char fill[32]; /* empty: not given */
    bool has_seed;
    uint64_t seed;
};

struct suite {
    struct suite_entry *entries;
    size_t count;
};

/* Appends the lines of `path`. STATUS_BAD_INPUT with file and line. */
enum status suite_read(struct suite *suite, const char *path, struct error *error);

/* Appends one entry; as many as there are for random:SEED/FIRST-LAST. */
enum status suite_add(struct suite *suite, const char *name, const char *text, struct error *error);

void suite_release(struct suite *suite);

#endif
