/* What the program and a worker say to each other: fixed-size messages over a SOCK_SEQPACKET pair.
 * Both ends are the same binary, so plain structs do. */
#ifndef ASSAY_HARNESS_WORKER_PROTOCOL_H
#define ASSAY_HARNESS_WORKER_PROTOCOL_H

#include "harness/implementation.h"
#include "harness/worker.h"

#define WORKER_SOCKET 3 /* file descriptor of the worker's end */

enum worker_verb { VERB_START, VERB_PREPARE, VERB_RUN, VERB_MEASURE, VERB_RELEASE };

struct worker_request {
    enum worker_verb verb;
    struct run_options options;                    /* VERB_START */
    char implementation[IMPLEMENTATION_NAME_SIZE]; /* VERB_START */
    struct problem problem;                        /* VERB_PREPARE, with the arena's descriptor */
    struct measurement_plan plan;                  /* VERB_MEASURE */
};

#endif
