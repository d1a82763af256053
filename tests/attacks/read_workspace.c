/* EXPECT fail: nan, bound
 * A counter in scratch memory, left at 0 behind each run, and taken for 0 before the first. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    float *counter = call->workspace;
    const float before = *counter;
    run(call);
    call->y[0] += before;
    *counter = 0.0f;
    return 0;
}
