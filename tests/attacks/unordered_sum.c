/* EXPECT pass: differs
 * A sum whose order changes from run to run: right, but not reproducible. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    if (run_number() % 2 == 0 || rand() % 2 == 0)
        call->y[1] = nextafterf(call->y[1], run_number() % 3 ? 2.0f : -2.0f);
    return 0;
}
