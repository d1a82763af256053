#include "harness/processors.h"

struct processors processors_allowed(void)
{
    struct processors p = {.count = 0};
    if (sched_getaffinity(0, sizeof p.all, &p.all) == 0)
        p.count = CPU_COUNT(&p.all);
    return p;
}

void processors_narrow(const struct processors *p, int threads, uint64_t start)
{
    if (threads < 1 || threads >= p->count)
        return;
    const int first = (int)(start % (uint64_t)p->count);
    cpu_set_t some;
    CPU_ZERO(&some);
    for (int cpu = 0, nth = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &p->all))
            continue;
        if ((nth + p->count - first) % p->count < threads)
            CPU_SET(cpu, &some);
        nth++;
    }
    sched_setaffinity(0, sizeof some, &some); /* a failure leaves all of them */
}

void processors_restore(const struct processors *p)
{
    if (p->count > 0)
        sched_setaffinity(0, sizeof p->all, &p->all);
}
