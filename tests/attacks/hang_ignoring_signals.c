/* EXPECT timeout: killed after
 * It never returns, and ignores what can be ignored. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    (void)call;
    for (int s = 1; s < 64; s++)
        signal(s, SIG_IGN);
    for (;;)
        ;
}
