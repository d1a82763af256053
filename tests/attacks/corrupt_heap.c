/* EXPECT crashed
 * The heap is overwritten, right under everybody's feet. */
#include "attack.h"

static int attack(struct assay_call *call)
{
    run(call);
    for (size_t size = 24; size < 4096; size += 16) {
        char *block = malloc(size);
        memset(block - 16, 0x55, size + 64);
        __asm__ volatile("" : : "r"(block) : "memory"); /* keeps the writes */
        free(block);
    }
    return 0;
}
