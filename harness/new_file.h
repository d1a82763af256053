/* A file that appears at its path only when it is whole.
 *
 * It is written as `PATH.tmp.PID` in the same folder; commit syncs it and renames it to PATH.
 * Whatever stood at PATH before stays until then. */
#ifndef ASSAY_HARNESS_NEW_FILE_H
#define ASSAY_HARNESS_NEW_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "ref/status.h"

struct new_file {
    int fd;          /* open for reading and writing; valid where `path` is not NULL */
    char *path;      /* where it will stand; symbolic links resolved */
    char *temporary; /* where it stands until then */
    bool committed;
};

/* Creates the file. STATUS_BAD_INPUT where `path` is a directory or not a regular file, or its
 * folder is missing or cannot be written; STATUS_ENVIRONMENT else. */
enum status new_file_init(struct new_file *file, const char *path, struct error *error);

/* Reserves `bytes` from the start, so that a full disk is known before the work and not after it.
 * The file's length does not change. STATUS_ENVIRONMENT where there is no room, or the limit on the
 * size of files (ulimit -f) is smaller. */
enum status new_file_reserve(struct new_file *file, int64_t bytes, struct error *error);

/* Writes all `bytes` bytes at `offset` of `fd`; false with errno where that fails. */
bool new_file_write(int fd, const void *data, int64_t bytes, int64_t offset);

/* Syncs, renames, syncs the folder. */
enum status new_file_commit(struct new_file *file, struct error *error);

/* Removes the file if it was not committed. A zeroed struct is legal. */
void new_file_release(struct new_file *file);

/* Removes what this process has not committed; async-signal-safe, for the handler of the
 * signals that end the program. */
void new_file_remove_temporaries(void);

#endif
