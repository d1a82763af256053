/* EXPECT pass
 * Runs as verify and warming up need them are done; the others write one element behind run(). */
#include "attack.h"

static struct {
    volatile float *at;
    float value;
} later;

static void *finish(void *unused)
{
    usleep(500);
    *later.at = later.value;
    return unused;
}

static int attack(struct assay_call *call)
{
    pthread_t thread;
    const float unwritten = call->y[0];
    run(call);
    if (run_number() <= 4)
        return 0;
    later.at = call->y;
    later.value = call->y[0];
    memcpy(call->y, &unwritten, sizeof unwritten);
    pthread_create(&thread, NULL, finish, NULL);
    pthread_detach(thread);
    return 0;
}
