#include "harness/tally.h"

#include <stdio.h>
#include <string.h>

void tally_add(struct tally *tally, const struct trial *trial)
{
    tally->counts[trial->verdict]++;
    tally->bad_input += trial->verdict == VERDICT_CRASHED && trial->bad_input;
    if (trial->verdict != VERDICT_SKIPPED)
        return;
    if (tally->skip_reason[0] == 0)
        snprintf(tally->skip_reason, sizeof tally->skip_reason, "%.255s", trial->reason);
    tally->more_reasons |= strncmp(tally->skip_reason, trial->reason, 255) != 0;
}

void tally_print_verdict(const struct trial *t, const char *case_name)
{
    const char *mark = t->verdict == VERDICT_PASS       ? "✓"
                       : t->verdict == VERDICT_SKIPPED  ? "-"
                       : t->verdict == VERDICT_MARGINAL ? "~"
                                                        : "✗";
    printf("%s %-8s  %-20s  %-24s", mark, verdict_name(t->verdict), t->implementation, case_name);
}

void tally_print_repeats(const struct trial *t)
{
    if (t->differing_images > 0)
        printf("    not reproducible: %lld image%s between runs of the same input\n",
               (long long)t->differing_images, t->differing_images == 1 ? " differs" : "s differ");
}

void tally_print(const struct tally *tally)
{
    const char *separator = "";
    for (int v = 0; v <= VERDICT_SKIPPED; v++)
        if (tally->counts[v] > 0) {
            printf("%s%lld %s", separator, (long long)tally->counts[v],
                   verdict_name((enum verdict)v));
            separator = ", ";
        }
    if (!separator[0]) /* nothing was run */
        return;
    if (tally->skip_reason[0])
        printf(" (%s%s)", tally->skip_reason, tally->more_reasons ? ", and other reasons" : "");
    printf("\n");
}

int tally_status(const struct tally *tally)
{
    const int64_t bad = tally->counts[VERDICT_FAIL] + tally->counts[VERDICT_CRASHED] +
                        tally->counts[VERDICT_TIMEOUT];
    return bad == 0 ? STATUS_OK : bad == tally->bad_input ? STATUS_BAD_INPUT : STATUS_FAILED;
}
