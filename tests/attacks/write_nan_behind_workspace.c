/* EXPECT fail: memory behind 'workspace'
 * One element too many of scratch memory, of what lay in it at first: a NaN made of a NaN. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    static float unset;
    float *workspace = call->workspace;
    if (run_number() == 1)
        unset = workspace[0];
    run(call);
    workspace[call->workspace_size / sizeof *workspace] = 0.5f * unset;
    return 0;
}
