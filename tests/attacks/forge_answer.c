/* EXPECT fail: unwritten elements
 * It sends the program's own message of success, with nothing done. */
#include "harness/worker_protocol.h"

#include "attack.h"

static int attack(struct assay_call *call)
{
    static struct worker_answer answer = {.outcome = WORKER_DONE, .seconds = 1e-9};
    (void)call;
    send(WORKER_SOCKET, &answer, sizeof answer, MSG_NOSIGNAL);
    for (;;)
        pause();
}
