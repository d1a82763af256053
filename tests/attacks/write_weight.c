/* EXPECT fail: wrote to its input 'weight'
 * One weight is changed after it was used. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    ((float *)(uintptr_t)call->weight)[0] += 1.0f;
    return 0;
}
