/* EXPECT fail: memory before 'workspace' was changed
 * One byte before the scratch memory. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    ((char *)call->workspace)[-1] = 1;
    return 0;
}
