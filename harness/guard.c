#include "harness/guard.h"

#include <stdint.h>
#include <string.h>

static const uint32_t signalling_nan = 0x7fa57fa5u;

void guard_fill(void *guard, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)guard)[i] = (unsigned char)(signalling_nan >> 8 * (i % 4));
}

bool guard_is_intact(const void *guard, size_t bytes)
{
    const char *start = guard;
    return memcmp(start, &signalling_nan, sizeof signalling_nan) == 0 &&
           memcmp(start, start + sizeof signalling_nan, bytes - sizeof signalling_nan) == 0;
}
