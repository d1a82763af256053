/* EXPECT pass: the tensors cannot be taken away
 * It shrinks every file that it can find open, the tensors among them. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    const int code = run(call);
    for (int fd = 3; fd < 1024; fd++)
        if (ftruncate(fd, 0) != 0)
            continue;
    return code;
}
