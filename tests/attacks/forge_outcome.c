/* EXPECT crashed: no answer to the request
 * It sends an answer with an outcome that there is not. */
#include "harness/worker_protocol.h"

#include "attack.h"

static int attack(struct assay_call *call)
{
    static struct worker_answer answer = {.outcome = (enum worker_outcome)77};
    (void)call;
    send(WORKER_SOCKET, &answer, sizeof answer, MSG_NOSIGNAL);
    for (;;)
        pause();
}
