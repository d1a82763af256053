/* EXPECT pass
 * Runs as verify and warming up need them are done; of the others, every second one. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    const int number = run_number();
    return number > 4 && number % 2 ? 0 : run(call);
}
