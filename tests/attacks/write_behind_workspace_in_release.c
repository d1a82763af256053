/* EXPECT fail: in release(): wrote outside its buffers: memory behind 'workspace'
 * All is well until what was kept is freed. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static void attack_release(struct assay_call *call)
{
    memset(call->workspace, 0, call->workspace_size + 1);
}

static int attack(struct assay_call *call)
{
    return run(call);
}
