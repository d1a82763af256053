/* EXPECT fail: returned before its work was done
 * A thread does the work after run() has returned. */
#include "attack.h"

static struct assay_call later;

static void *work(void *unused)
{
    (void)unused;
    usleep(50000);
    run(&later);
    return NULL;
}

static int attack(struct assay_call *call)
{
    pthread_t thread;
    later = *call;
    pthread_create(&thread, NULL, work, NULL);
    pthread_detach(thread);
    return 0;
}
