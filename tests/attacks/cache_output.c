/* EXPECT fail: returned the output of an earlier run
 * The first output is kept and given again. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    static float *kept;
    const size_t bytes = y_count(call) * sizeof(float);
    if (!kept) {
        run(call);
        kept = malloc(bytes);
        memcpy(kept, call->y, bytes);
    }
    memcpy(call->y, kept, bytes);
    return 0;
}
