/* EXPECT timeout: killed after
 * It never returns. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    (void)call;
    for (;;)
        pause();
}
