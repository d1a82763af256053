#include "harness/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/comparison.h"
#include "harness/html.h"

enum status report_init(struct report *r, const struct record_set *set, bool dirty,
                        struct error *error)
{
    struct series_list list;
    struct commit_order order;
    *r = (struct report){.set = set};
    enum status status = series_build(set, NULL, NULL, &list, error);
    if (status != STATUS_OK)
        return status;
    commit_order_init(&order);
    r->rows = calloc((size_t)list.count + 1, sizeof *r->rows);
    if (!r->rows)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the report");
    for (int64_t i = 0; i < list.count && status == STATUS_OK; i++) {
        struct report_row *row = &r->rows[r->count];
        const double noise = comparison_level_noise(set, &list.series[i].key);
        status = timeline_build(set, &list.series[i], &order, noise, dirty, &row->timeline, error);
        if (status != STATUS_OK)
            break;
        if (row->timeline.count == 0) { /* nothing but changed trees */
            timeline_release(&row->timeline);
            continue;
        }
        row->last = &row->timeline.points[row->timeline.count - 1];
        row->record = row->last->newest;
        r->count++;
    }
    commit_order_release(&order);
    series_release(&list);
    if (status != STATUS_OK)
        report_release(r);
    return status;
}

void report_release(struct report *r)
{
    for (int64_t i = 0; i < r->count; i++)
        timeline_release(&r->rows[i].timeline);
    free(r->rows);
    *r = (struct report){0};
}

int64_t report_machine_end(const struct report *r, int64_t i)
{
    const char *machine = r->rows[i].timeline.key.machine;
    while (i < r->count && r->rows[i].timeline.key.machine == machine)
        i++;
    return i;
}

static void tile(FILE *out, const char *cls, int64_t count, const char *what)
{
    fprintf(out, "<div class=\"tile\"><b class=\"%s\">%lld</b>%s</div>\n", count ? cls : "",
            (long long)count, what);
}

static void summary(FILE *out, const struct report *r)
{
    int64_t passed = 0, failed = 0, marginal = 0, changed = 0;
    const struct record *newest = NULL;
    for (int64_t i = 0; i < r->count; i++) {
        const struct record *record = r->rows[i].record;
        passed += strcmp(record->verdict, "pass") == 0;
        marginal += strcmp(record->verdict, "marginal") == 0;
        failed += record_failed(record);
        changed += r->rows[i].timeline.changes;
        if (!newest || series_compare_age(record, newest) > 0)
            newest = record;
    }
    char now[32];
    const time_t seconds = time(NULL);
    strftime(now, sizeof now, "%Y-%m-%d %H:%M UTC", gmtime(&seconds));
    fprintf(out, "<p>%lld records, written %s", (long long)r->set->count, now);
    if (newest) {
        fprintf(out, "; newest commit <code>");
        html_text(out, newest->commit);
        fprintf(out, "</code>%s", newest->dirty ? ", changed" : "");
    }
    if (r->set->skipped)
        fprintf(out, "; <span class=\"warn\">%lld lines skipped</span>",
                (long long)r->set->skipped);
    fprintf(out, "</p>\n<div class=\"tiles\">\n");
    tile(out, "good", passed, "pass");
    tile(out, "warn", marginal, "marginal");
    tile(out, "bad", failed, "fail");
    tile(out, "", changed, "changes of speed");
    fprintf(out, "</div>\n<nav>");
    static const char *const links[][2] = {{"verdicts", "Verdicts"}, {"ladder", "Times"},
                                           {"roofline", "Roofline"}, {"history", "History"},
                                           {"errors", "Errors"},     {"kills", "Kill matrix"},
                                           {"machines", "Machines"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        fprintf(out, "<a href=\"#%s\">%s</a>", links[i][0], links[i][1]);
    fprintf(out, "</nav>\n");
}

void report_write(FILE *out, const struct report *r, const char *title)
{
    html_begin(out, title);
    fprintf(out, "<h1>");
    html_text(out, title);
    fprintf(out, "</h1>\n");
    summary(out, r);
    report_verdicts(out, r);
    report_ladder(out, r);
    report_roofline(out, r);
    report_history(out, r);
    report_errors(out, r);
    report_kill_matrix(out, r);
    report_machines(out, r);
    html_end(out);
}
