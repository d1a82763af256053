/* EXPECT fail: in release(): wrote to its input 'bias'
 * All is well until what was kept is freed. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static void attack_release(struct assay_call *call)
{
    ((float *)call->bias)[0] = 1.0f;
}

static int attack(struct assay_call *call)
{
    return run(call);
}
