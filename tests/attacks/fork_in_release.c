/* EXPECT fail: in release(): left 1 process running behind it
 * All is well until what was kept is freed. */
#define ATTACK_RELEASE attack_release
#include "attack.h"

static void attack_release(struct assay_call *call)
{
    (void)call;
    if (fork() == 0)
        for (;;)
            pause();
}

static int attack(struct assay_call *call)
{
    return run(call);
}
