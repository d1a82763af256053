/* EXPECT fail: worst at
 * y is added to, not set. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    const size_t n = y_count(call);
    float *before = malloc(n * sizeof *before);
    memcpy(before, call->y, n * sizeof *before);
    run(call);
    for (size_t i = 0; i < n; i++)
        call->y[i] += before[i];
    free(before);
    return 0;
}
