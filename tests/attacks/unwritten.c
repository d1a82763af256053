/* EXPECT fail: unwritten elements
 * The last image is left as it was. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    struct assay_plugin_problem shorter = *call->problem;
    struct assay_call part = *call;
    shorter.batch--;
    part.problem = &shorter;
    return run(&part);
}
