/* EXPECT fail: left 1 process running
 * A child goes on when the answer is given. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    if (fork() == 0)
        for (;;)
            pause();
    return run(call);
}
