/* EXPECT crashed: in release(): ended by signal 6, SIGABRT
 * All is well until what was kept is freed, as of a block that is freed twice. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static void attack_release(struct assay_call *call)
{
    (void)call;
    abort();
}

static int attack(struct assay_call *call)
{
    return run(call);
}
