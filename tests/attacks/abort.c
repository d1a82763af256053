/* EXPECT crashed: SIGABRT
 * An assertion ends the process. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    (void)call;
    abort();
}
