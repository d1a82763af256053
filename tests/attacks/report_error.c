/* EXPECT fail: no luck today
 * run() reports an error. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    strcpy(call->reason, "no luck today");
    return 1;
}
