/* EXPECT fail: memory behind 'workspace' was changed
 * One byte too many of scratch memory. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    ((char *)call->workspace)[call->workspace_size] = 1;
    return 0;
}
