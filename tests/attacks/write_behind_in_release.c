/* EXPECT fail: in release(): wrote outside its output: memory behind 'y'
 * All is well until what was kept is freed. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static float *kept;

static void attack_release(struct assay_call *call)
{
    kept[y_count(call)] = 0.0f;
}

static int attack(struct assay_call *call)
{
    kept = call->y;
    return run(call);
}
