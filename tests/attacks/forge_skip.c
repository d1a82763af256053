/* EXPECT crashed: no answer to the request
 * It says that the problem is not supported, once it has been asked to run. */
#include "harness/worker_protocol.h"

#include "attack.h"

static int attack(struct assay_call *call)
{
    static struct worker_answer answer = {.outcome = WORKER_UNSUPPORTED};
    (void)call;
    send(WORKER_SOCKET, &answer, sizeof answer, MSG_NOSIGNAL);
    for (;;)
        pause();
}
