/* EXPECT fail: nan, bound
 * What lies behind x is taken for padding, as if it were 0. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    call->y[0] += call->x[x_count(call)];
    return 0;
}
