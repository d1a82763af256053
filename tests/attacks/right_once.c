/* EXPECT fail: run 2 of the same input went wrong
 * Only the first run does the work. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    if (run_number() == 1)
        return run(call);
    memset(call->y, 0, y_count(call) * sizeof(float));
    return 0;
}
