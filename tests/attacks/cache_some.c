/* EXPECT fail: wrong on other input
 * Half of the first output is kept and given again. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    static float *kept;
    const size_t count = y_count(call) / 2;
    run(call);
    if (!kept) {
        kept = malloc(count * sizeof(float));
        memcpy(kept, call->y, count * sizeof(float));
    }
    memcpy(call->y, kept, count * sizeof(float));
    return 0;
}
