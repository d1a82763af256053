#include <stdlib.h>
#include <string.h>

#include "ref/strip_kernels.h"

#if defined(__x86_64__)
extern const struct strip_kernels strip_kernels_avx512, strip_kernels_avx2, strip_kernels_sse2;
#else
extern const struct strip_kernels strip_kernels_generic;
#endif

const struct strip_kernels *strip_kernels_get(void)
{
    const struct {
        const struct strip_kernels *kernels;
        int usable;
    } table[] = {
#if defined(__x86_64__)
        {&strip_kernels_avx512,
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")},
        {&strip_kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
        {&strip_kernels_sse2, 1},
#else
        {&strip_kernels_generic, 1},
#endif
    };
    const size_t count = sizeof table / sizeof *table;
    const char *asked = getenv("ASSAY_ISA");
    for (size_t i = 0; asked && i < count; i++)
        if (table[i].usable && strcmp(asked, table[i].kernels->isa) == 0)
            return table[i].kernels;
    for (size_t i = 0; i < count; i++)
        if (table[i].usable)
            return table[i].kernels;
    return NULL;
}
