/* assay history: what became of each implementation, commit by commit. */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "harness/command.h"
#include "harness/comparison_print.h"
#include "harness/git.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/timeline.h"

struct history {
    const char *implementation, *problem, *machine; /* globs; NULL: all */
    bool json, dirty, brief;
    int64_t columns;
};

static bool wanted(const void *context, const struct record *r)
{
    const struct history *h = context;
    return (!h->implementation || fnmatch(h->implementation, r->implementation, 0) == 0) &&
           (!h->problem || fnmatch(h->problem, r->problem, 0) == 0) &&
           (!h->machine || fnmatch(h->machine, r->machine, 0) == 0);
}

static void print_change(const struct timeline *t, int64_t i)
{
    const struct timeline_point *p = &t->points[i], *before = p;
    char a[32], b[32], between[64] = "";
    while (before > t->points && !(--before)->timed)
        ;
    const long count = git_count_between(before->newest->commit, p->newest->commit);
    if (count > 1)
        snprintf(between, sizeof between, ", %ld commits", count);
    printf("  change: %s -> %s (x %.3f) in %s..%s%s\n", seconds_text(p->before, a, sizeof a),
           seconds_text(p->after, b, sizeof b), p->after / p->before, before->newest->commit,
           p->newest->commit, between);
    if (before->newest->driver != p->newest->driver)
        printf("          the driver changed there, too: %s -> %s\n",
               before->newest->driver ? before->newest->driver : "none",
               p->newest->driver ? p->newest->driver : "none");
}

static void print_text(const struct history *h, const struct timeline *t)
{
    char problem[600], time[32], interval[INTERVAL_TEXT_SIZE];
    series_problem_text(&t->key, problem, sizeof problem);
    char threads[40] = "";
    if (t->key.threads > 0)
        snprintf(threads, sizeof threads, ", %lld thread%s", (long long)t->key.threads,
                 t->key.threads == 1 ? "" : "s");
    printf("%s on %s\n  %s%s; %lld commit%s, %lld change%s\n", t->key.implementation, problem,
           t->key.machine, threads, (long long)t->count, t->count == 1 ? "" : "s",
           (long long)t->changes, t->changes == 1 ? "" : "s");
    for (int64_t i = 0; i < t->count && !h->brief; i++) {
        const struct timeline_point *p = &t->points[i];
        printf("  %-12s  %-20s  %-8s", p->newest->commit,
               p->newest->commit_time ? p->newest->commit_time : "", p->newest->verdict);
        if (p->timed)
            printf("  %10s %s", seconds_text(p->median.median, time, sizeof time),
                   interval_text(&p->median, interval));
        if (p->runs > 1)
            printf("  %lld runs", (long long)p->runs);
        printf("%s\n", p->change ? "  <- change" : "");
    }
    timeline_plot(t, (int)h->columns, 10);
    for (int64_t i = 0; i < t->count; i++)
        if (t->points[i].change)
            print_change(t, i);
    printf("\n");
}

static void print_json(const struct timeline *t)
{
    for (int64_t i = 0; i < t->count; i++) {
        const struct timeline_point *p = &t->points[i];
        json_t *o = json_object();
        json_object_set_new(o, "kind", json_string("history"));
        json_object_set_new(o, "machine", record_text(t->key.machine));
        json_object_set_new(o, "problem", record_text(t->key.problem));
        json_object_set_new(o, "data", record_text(t->key.data));
        json_object_set_new(o, "implementation", record_text(t->key.implementation));
        json_object_set_new(o, "commit", record_text(p->newest->commit));
        json_object_set_new(o, "commit_time", record_text(p->newest->commit_time));
        json_object_set_new(o, "verdict", record_text(p->newest->verdict));
        json_object_set_new(o, "runs", json_integer(p->runs));
        json_object_set_new(o, "median_s",
                            p->timed ? record_number(p->median.median) : json_null());
        json_object_set_new(o, "ci_low_s", p->timed ? record_number(p->median.low) : json_null());
        json_object_set_new(o, "ci_high_s", p->timed ? record_number(p->median.high) : json_null());
        json_object_set_new(o, "change", json_boolean(p->change));
        json_object_set_new(o, "level_before_s",
                            p->change ? record_number(p->before) : json_null());
        json_object_set_new(o, "level_after_s", p->change ? record_number(p->after) : json_null());
        record_print(o);
        json_decref(o);
    }
}

static enum status show(const struct history *h, const struct record_set *set, struct error *error)
{
    struct series_list list;
    struct commit_order order;
    enum status status = series_build(set, wanted, h, &list, error);
    if (status != STATUS_OK)
        return status;
    commit_order_init(&order);
    if (list.count == 0)
        status = error_set(error, STATUS_BAD_INPUT,
                           "no record matches: make some with 'assay bench --record FILE'");
    for (int64_t i = 0; i < list.count && status == STATUS_OK; i++) {
        struct timeline t;
        const double noise = comparison_level_noise(set, &list.series[i].key);
        status = timeline_build(set, &list.series[i], &order, noise, h->dirty, &t, error);
        if (status == STATUS_OK && t.count > 0)
            h->json ? print_json(&t) : print_text(h, &t);
        if (status == STATUS_OK)
            timeline_release(&t);
    }
    commit_order_release(&order);
    series_release(&list);
    return status;
}

int cmd_history(int argc, char **argv)
{
    struct history h = {.columns = 72};
    const struct option options[] = {
        {"impl", OPTION_STRING, &h.implementation, "GLOB", "only these implementations", 0, 0},
        {"problem", OPTION_STRING, &h.problem, "GLOB", "only these problems", 0, 0},
        {"machine", OPTION_STRING, &h.machine, "GLOB", "only these machines", 0, 0},
        {"dirty", OPTION_FLAG, &h.dirty, NULL, "records of changed trees count, too", 0, 0},
        {"brief", OPTION_FLAG, &h.brief, NULL, "plot and changes, without the table", 0, 0},
        {"columns", OPTION_INTEGER, &h.columns, "N", "width of the plot (default 72)", 10, 1000},
        {"json", OPTION_FLAG, &h.json, NULL, "one JSON object a line", 0, 0},
    };
    const struct option_set option_set = {
        "history", "[options] [RECORDS...]",
        "Shows each implementation on each problem and machine, commit by commit in the order of\n"
        "the repository, with the commits between which its time changed. RECORDS: files or\n"
        "folders (default results). Behind each median, how far its 95 % interval reaches below\n"
        "and above. Change points by PELT (Killick et al., 2012) on the logarithm of the medians;\n"
        "a single commit that stands out is no change.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct record_set set = {0};
    enum status status = options_parse(&option_set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK && words == 0)
        status = record_set_read(&set, "results", &error);
    for (int i = 0; i < words && status == STATUS_OK; i++)
        status = record_set_read(&set, argv[i], &error);
    if (status == STATUS_OK)
        status = show(&h, &set, &error);
    record_set_release(&set);
    return status == STATUS_OK ? STATUS_OK : command_error(&error);
}
