/* EXPECT crashed: exited with status 0
 * It ends the process as if all were well. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    exit(0);
}
