/* EXPECT fail: memory before 'y' was changed
 * One element too early. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    call->y[-1] = 0.5f;
    return 0;
}
