/* Which processors a worker may use. */
#ifndef ASSAY_HARNESS_PROCESSORS_H
#define ASSAY_HARNESS_PROCESSORS_H

#include <sched.h>
#include <stdint.h>

struct processors {
    cpu_set_t all; /* of this process */
    int count;     /* of them; 0: not known, and nothing is narrowed */
};

/* Of the calling thread. */
struct processors processors_allowed(void);

/* Leaves the calling thread, and the processes that it starts from now on, `threads` of them,
 * counted round from number `start`. Nothing happens where there are no more than `threads`. */
void processors_narrow(const struct processors *processors, int threads, uint64_t start);

/* Takes it back. */
void processors_restore(const struct processors *processors);

#endif
