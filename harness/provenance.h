/* Which code was measured: the commit that a binary was built from, and a hash of what it executes.
 *
 * The commit, its time and whether the tree differed from it are compiled into a section of their
 * own, `.assay.build`, so that they can be read from any binary of this program without running it,
 * and so that the hash can leave them out: two commits that differ in words only make binaries with
 * the same hash. Such pairs are the noise gauge of a comparison. */
#ifndef ASSAY_HARNESS_PROVENANCE_H
#define ASSAY_HARNESS_PROVENANCE_H

#include <stdbool.h>

#include "ref/status.h"

struct provenance {
    char commit[48];      /* 12 hexadecimal digits, or what the user called it */
    char commit_time[32]; /* ISO 8601, UTC; empty: not known */
    bool dirty;           /* built from a tree that differed from the commit */
    char binary[24];      /* 16 hexadecimal digits; empty: not known */
};

/* Of the binary at `path`; NULL: of the running one. STATUS_BAD_INPUT where it is not an ELF file
 * that this program's build made. */
enum status provenance_of(const char *path, struct provenance *provenance, struct error *error);

/* Of the running program, with what the user says about it: `commit` and `commit_time` where not
 * NULL, else ASSAY_COMMIT and ASSAY_COMMIT_TIME. A commit so named is taken to be clean, and its
 * time is asked of git where it is not given. */
void provenance_get(const char *commit, const char *commit_time, struct provenance *provenance);

/* The commit compiled in. */
const char *provenance_build_commit(void);

/* Hash of a whole file, as for struct provenance; false where it cannot be read. */
bool provenance_file_hash(const char *path, char hash[24]);

#endif
