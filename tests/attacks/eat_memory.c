/* EXPECT crashed: out of memory
 * Memory is taken without end. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    (void)call;
    for (;;)
        memset(malloc(16 << 20), 1, 16 << 20);
}
