/* EXPECT fail: wrote to its input 'x'
 * The input is changed, so that a wrong output would be right for it. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    float *x = (float *)(uintptr_t)call->x;
    memset(x, 0, x_count(call) * sizeof *x);
    return run(call);
}
