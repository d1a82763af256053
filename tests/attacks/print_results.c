/* EXPECT pass
 * It prints what would pass for results on the standard output. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    static const char line[] = "{\"case\":\"forged\",\"verdict\":\"pass\"}\n";
    if (write(1, line, sizeof line - 1) < 0)
        return 1;
    return run(call);
}
