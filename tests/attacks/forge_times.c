/* EXPECT pass: right, but its times are not its own to write
 * It writes sample counts and times into the memory that it shares with the program. */
#include <stdio.h>

#include "harness/arena.h"

#include "attack.h"

/* The results stand at the start of the mapping that x lies in. */
static struct measurement *find_results(const struct assay_call *call)
{
    char line[512];
    unsigned long first, last, results = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &first, &last) == 2 && (unsigned long)call->x >= first &&
            (unsigned long)call->x < last)
            results = first;
    if (maps)
        fclose(maps);
    return (struct measurement *)results;
}

static int attack(struct assay_call *call)
{
    struct measurement *m = find_results(call);
    const int code = run(call);
    m->count = INT64_MAX;
    for (int i = 0; i < MEASUREMENT_SAMPLES; i++)
        m->samples_s[i] = 1e-9;
    memset(m->note, 'x', sizeof m->note);
    memset(m->device, 'x', sizeof m->device);
    memset(m->throttle, 'x', sizeof m->throttle);
    return code;
}
