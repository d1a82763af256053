/* EXPECT fail: memory behind 'y' was changed
 * One element too many. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    call->y[y_count(call)] = 0.5f;
    return 0;
}
