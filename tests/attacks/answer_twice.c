/* EXPECT fail: run 2 of the same input went wrong
 * Its second answer stands ready before the second run is asked for. */
#include "harness/worker_protocol.h"

#include "attack.h"

static int attack(struct assay_call *call)
{
    static struct worker_answer answer = {.outcome = WORKER_DONE};
    if (run_number() > 1)
        for (;;)
            pause();
    const int code = run(call);
    send(WORKER_SOCKET, &answer, sizeof answer, MSG_NOSIGNAL);
    return code;
}
