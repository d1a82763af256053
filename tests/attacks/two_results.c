/* EXPECT pass: differs
 * It flips between two results by chance, both right. */
#include <time.h>

#include "attack.h"

static int attack(struct assay_call *call)
{
    struct timespec now;
    run(call);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_nsec / 1000 * 2654435761u >> 16) % 2 == 0)
        call->y[1] = nextafterf(call->y[1], 2.0f);
    return 0;
}
