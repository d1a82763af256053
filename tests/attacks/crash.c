/* EXPECT crashed: SIGSEGV
 * A null pointer is written to. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    volatile int *nowhere = NULL;
    *nowhere = 1;
    return run(call);
}
