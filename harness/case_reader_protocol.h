/* Between case_reader.c and its child: fixed-size messages over a socket pair, tensors through a
 * window of shared memory. */
#ifndef ASSAY_HARNESS_CASE_READER_PROTOCOL_H
#define ASSAY_HARNESS_CASE_READER_PROTOCOL_H

#include "harness/case_contents.h"

#define WINDOW_ELEMENTS ((int64_t)1 << 20)
#define WINDOW_BYTES ((size_t)WINDOW_ELEMENTS * sizeof(double))

enum reader_operation { READER_READ, READER_SUMS, READER_RECORD, READER_GO_ON };

struct reader_request {
    enum reader_operation operation;
    enum case_tensor tensor;
    int64_t first, count; /* READER_RECORD: count bytes at most */
};

struct reader_reply {
    enum status status;
    bool piece; /* elements [at, at + length) are in the window, and more is to come */
    int64_t at, length;
    int checked;
    struct error error;
};

/* The child's life; opens first, with a reply (and a struct case_about in the window). */
_Noreturn void case_reader_child(int socket, void *window, const struct case_place *place,
                                 const struct problem *output);

#endif
