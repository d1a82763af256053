/* EXPECT timeout: in release(): killed after 1 s
 * All is well until what was kept is freed, as by a thread pool that waits for itself. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static void attack_release(struct assay_call *call)
{
    (void)call;
    for (;;)
        pause();
}

static int attack(struct assay_call *call)
{
    return run(call);
}
