/* EXPECT fail: reads its output buffer
 * What stands in y before is told from a number, and leaves a trace within every tolerance. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    uint32_t before;
    memcpy(&before, call->y, sizeof before);
    run(call);
    if (before & 0x80000000u)
        call->y[0] = nextafterf(call->y[0], 2.0f);
    return 0;
}
