#include "harness/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "harness/clock.h"

void progress_begin(struct progress *p, const char *what, const char *unit, int64_t total)
{
    *p = (struct progress){.what = what, .unit = unit, .total = total, .start = clock_seconds()};
    p->active = isatty(STDERR_FILENO);
}

void progress_step(struct progress *p, int64_t more)
{
    p->done += more;
    const double now = clock_seconds(), elapsed = now - p->start;
    /* Quick work shows nothing; slow work not more than ten times a second. */
    if (!p->active || elapsed < 0.5 || now - p->shown < 0.1)
        return;
    p->shown = now;
    const double rate = (double)p->done / elapsed;
    fprintf(stderr, "\r\033[K%s: %lld of %lld %s, %.3g %s/s, %.0f s left", p->what,
            (long long)p->done, (long long)p->total, p->unit, rate, p->unit,
            (double)(p->total - p->done) / rate);
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->active && p->shown > 0.0)
        fprintf(stderr, "\r\033[K");
}
