/* A child process that reads one HDF5 file for us.
 *
 * HDF5 1.10 was not written for files of strangers: a few changed bytes make it crash, loop for
 * ever or ask for terabytes. So it only ever reads in a child, which has a limit on memory and on
 * the processor time of each step; what it sends is checked like any input. Whatever happens to the
 * child is an error in one line here, and the program goes on.
 *
 *     program                                 child (fork, no exec)
 *       |  -- request (open, read, ...) -->     |
 *       |  <-- reply: a piece is in the window  |     the window: shared memory, filled by HDF5
 *       |  -- go on -->                         |
 *       |  <-- reply: done, or an error         |
 *
 * The child ends when its reader is freed, or when the program ends, however it ends. */
#ifndef ASSAY_HARNESS_CASE_READER_H
#define ASSAY_HARNESS_CASE_READER_H

#include <stdbool.h>
#include <sys/types.h>

#include "harness/case_contents.h"

struct case_reader {
    pid_t pid; /* 0 = none */
    int socket;
    void *window;
    char path[200]; /* printable, for messages */
};

/* Starts the child and opens `place` there: as an output file of *output where that is not NULL,
 * else as a case file. Error messages start with the path. */
enum status case_reader_init(struct case_reader *reader, const struct case_place *place,
                             const struct problem *output, struct case_about *about,
                             struct error *error);

/* Rows [first, first + count) of a tensor, `elements` in all, to out: double for CASE_EXPECTED,
 * else float. */
enum status case_reader_read(struct case_reader *reader, enum case_tensor tensor, int64_t first,
                             int64_t count, int64_t elements, void *out, struct error *error);

/* The attribute `record`, 0-terminated; size <= WINDOW_BYTES. */
enum status case_reader_record(struct case_reader *reader, char *record, size_t size,
                               struct error *error);

enum status case_reader_check_sums(struct case_reader *reader, int *checked, struct error *error);

/* A zeroed struct is legal. */
void case_reader_release(struct case_reader *reader);

#endif
