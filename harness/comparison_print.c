#include "harness/comparison_print.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/record.h"

const char *seconds_text(double seconds, char *text, size_t size)
{
    static const struct {
        double least, scale;
        const char *unit;
    } units[] = {{1.0, 1.0, "s"}, {1e-3, 1e3, "ms"}, {0.0, 1e6, "us"}};
    int i = 0;
    while (seconds < units[i].least)
        i++;
    snprintf(text, size, "%.4g %s", seconds * units[i].scale, units[i].unit);
    return text;
}

const char *interval_text(const struct median *m, char text[INTERVAL_TEXT_SIZE])
{
    snprintf(text, INTERVAL_TEXT_SIZE, "-%.1f %% +%.1f %%", 100.0 * (1.0 - m->low / m->median),
             100.0 * (m->high / m->median - 1.0));
    return text;
}

static const char *mark_of(const struct comparison *c, double threshold)
{
    if (c->failure || (c->timed && c->change == CHANGE_SLOWER && !c->identical &&
                       c->ratio.ratio > 1.0 + threshold))
        return "✗";
    if (c->repaired || (c->timed && c->change == CHANGE_FASTER && !c->identical))
        return "✓";
    return c->timed && c->change == CHANGE_UNDECIDED ? "?" : " ";
}

static const char *verdict_of(const struct record *r)
{
    return r ? r->verdict : "absent";
}

/* Where the heading of a side names another commit. */
static void print_commits(const struct comparison *c, const struct record *const newest[2])
{
    const struct record *const a = c->a, *const b = c->b;
    if ((a && !comparison_same_tree(a, newest[0])) || (b && !comparison_same_tree(b, newest[1])))
        printf("    commit: %s%s -> %s%s\n", a ? a->commit : "none",
               a && a->dirty ? ", changed" : "", b ? b->commit : "none",
               b && b->dirty ? ", changed" : "");
}

static void print_row(const struct comparison *c, const struct record *const newest[2], int width,
                      double threshold)
{
    char problem[600], name[SERIES_NAME_SIZE], a[32], b[32];
    char a_interval[INTERVAL_TEXT_SIZE], b_interval[INTERVAL_TEXT_SIZE];
    series_problem_text(&c->key, problem, sizeof problem);
    series_implementation_text(&c->key, name, sizeof name);
    printf("%s %-*s  %-36s", mark_of(c, threshold), width, name, problem);
    if (c->timed) {
        printf(
            "  %9s %-16s  %9s %-16s  %6.4f (%.4f to %.4f)  %s",
            seconds_text(c->a_median.median, a, sizeof a), interval_text(&c->a_median, a_interval),
            seconds_text(c->b_median.median, b, sizeof b), interval_text(&c->b_median, b_interval),
            c->ratio.ratio, c->ratio.low, c->ratio.high, change_name(c->change));
        if (c->identical)
            printf(", identical binary");
        if (c->interleaved)
            printf(", interleaved");
    } else {
        printf("  not timed on both sides");
    }
    if (!c->a || !c->b || strcmp(verdict_of(c->a), verdict_of(c->b)) != 0)
        printf("; verdict: %s -> %s%s", verdict_of(c->a), verdict_of(c->b),
               c->failure ? ", NEW FAILURE" : "");
    printf("\n");
    print_commits(c, newest);
    if (c->failure && c->b->reason)
        printf("    %s\n", c->b->reason);
    if (c->a && c->b && c->a->driver != c->b->driver)
        printf("    driver: %s -> %s\n", c->a->driver ? c->a->driver : "none",
               c->b->driver ? c->b->driver : "none");
}

static void print_apart(const struct comparison_list *list)
{
    for (int64_t i = 0; i < list->apart_count; i++) {
        const struct comparison_apart *p = &list->apart[i];
        printf("not compared: %s on %s: A on '%s', B on '%s'\n", p->a.implementation, p->a.problem,
               p->a.machine, p->b.machine);
    }
}

void comparison_print_text(const struct comparison_list *list, const char *a, const char *b,
                           double threshold)
{
    const struct record *const newest[] = {comparison_newest(list, false),
                                           comparison_newest(list, true)};
    int width = 14;
    for (int64_t i = 0; i < list->count; i++) {
        char name[SERIES_NAME_SIZE];
        series_implementation_text(&list->rows[i].key, name, sizeof name);
        const int n = (int)strlen(name);
        width = n > width && n <= 40 ? n : width;
    }
    printf("A  %s\nB  %s\n", a, b);
    for (int64_t i = 0; i < list->count; i++) {
        const struct comparison *c = &list->rows[i];
        if (i == 0 || c->key.machine != c[-1].key.machine)
            printf("\n%s\n  %-*s  %-36s  %-26s  %-26s  %s\n", c->key.machine, width,
                   "implementation", "problem", "A (95 %)", "B (95 %)", "B / A (99 %)");
        print_row(c, newest, width, threshold);
        if (i + 1 == list->count || c->key.machine != c[1].key.machine) {
            int64_t n;
            const double mean = comparison_mean(list, c->key.machine, &n);
            if (n > 0)
                printf("  geometric mean of B / A over %lld: %.4f\n", (long long)n, mean);
        }
    }
    printf("\n");
    print_apart(list);
    if (list->identical > 0)
        printf("noise gauge: %lld of the pairs are identical binaries; they differ by %.2f %% at "
               "most\n",
               (long long)list->identical, 100.0 * list->identical_worst);
}

static json_t *side_json(const struct record *r, int64_t runs, const struct median *m, bool timed)
{
    json_t *o = json_object();
    json_object_set_new(o, "commit", record_text(r ? r->commit : NULL));
    json_object_set_new(o, "verdict", record_text(r ? r->verdict : NULL));
    json_object_set_new(o, "binary", record_text(r ? r->binary : NULL));
    json_object_set_new(o, "runs", json_integer(runs));
    json_object_set_new(o, "median_s", timed ? record_number(m->median) : json_null());
    json_object_set_new(o, "ci_low_s", timed ? record_number(m->low) : json_null());
    json_object_set_new(o, "ci_high_s", timed ? record_number(m->high) : json_null());
    return o;
}

static void print_row_json(const struct comparison *c)
{
    json_t *o = json_object();
    json_object_set_new(o, "kind", json_string("comparison"));
    json_object_set_new(o, "machine", record_text(c->key.machine));
    json_object_set_new(o, "problem", record_text(c->key.problem));
    json_object_set_new(o, "data", record_text(c->key.data));
    json_object_set_new(o, "implementation", record_text(c->key.implementation));
    json_object_set_new(o, "class", record_text(c->key.cls));
    json_object_set_new(o, "threads", json_integer(c->key.threads));
    json_object_set_new(o, "a", side_json(c->a, c->a_runs, &c->a_median, c->timed));
    json_object_set_new(o, "b", side_json(c->b, c->b_runs, &c->b_median, c->timed));
    json_object_set_new(o, "ratio", c->timed ? record_number(c->ratio.ratio) : json_null());
    json_object_set_new(o, "ratio_low", c->timed ? record_number(c->ratio.low) : json_null());
    json_object_set_new(o, "ratio_high", c->timed ? record_number(c->ratio.high) : json_null());
    json_object_set_new(o, "noise", c->timed ? record_number(c->noise) : json_null());
    json_object_set_new(o, "change", c->timed ? json_string(change_name(c->change)) : json_null());
    json_object_set_new(o, "interleaved", json_boolean(c->interleaved));
    json_object_set_new(o, "identical_binary", json_boolean(c->identical));
    json_object_set_new(o, "new_failure", json_boolean(c->failure));
    json_object_set_new(o, "repaired", json_boolean(c->repaired));
    record_print(o);
    json_decref(o);
}

void comparison_print_json(const struct comparison_list *list, const char *a, const char *b,
                           double threshold)
{
    int64_t n;
    const double mean = comparison_mean(list, NULL, &n);
    for (int64_t i = 0; i < list->count; i++)
        print_row_json(&list->rows[i]);
    json_t *apart = json_array();
    for (int64_t i = 0; i < list->apart_count; i++) {
        const struct comparison_apart *p = &list->apart[i];
        json_t *o = json_object();
        json_object_set_new(o, "implementation", record_text(p->a.implementation));
        json_object_set_new(o, "problem", record_text(p->a.problem));
        json_object_set_new(o, "machine_a", record_text(p->a.machine));
        json_object_set_new(o, "machine_b", record_text(p->b.machine));
        json_array_append_new(apart, o);
    }
    json_t *o = json_object();
    json_object_set_new(o, "kind", json_string("summary"));
    json_object_set_new(o, "a", record_text(a));
    json_object_set_new(o, "b", record_text(b));
    json_object_set_new(o, "compared", json_integer(n));
    json_object_set_new(o, "geometric_mean", record_number(mean));
    json_object_set_new(o, "threshold", record_number(threshold));
    json_object_set_new(o, "regressions", json_integer(comparison_regressions(list, threshold)));
    json_object_set_new(o, "identical_binaries", json_integer(list->identical));
    json_object_set_new(o, "identical_worst", record_number(list->identical_worst));
    json_object_set_new(o, "not_compared", apart);
    record_print(o);
    json_decref(o);
}
