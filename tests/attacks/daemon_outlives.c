/* EXPECT fail: left 1 process running
 * A grandchild in a session of its own, its parent gone. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    const pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0)
            for (;;)
                pause();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return run(call);
}
