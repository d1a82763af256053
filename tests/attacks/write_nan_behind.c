/* EXPECT fail: memory behind 'y'
 * One element too many, of what lies behind x: a NaN made of a NaN. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    call->y[y_count(call)] = 0.5f * call->x[x_count(call)];
    return 0;
}
