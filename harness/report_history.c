/* The report's history: one plot for each problem of a machine, its implementations as lines over
 * commits, each relative to its oldest commit, change points as vertical lines. */
#include <math.h>
#include <string.h>

#include "harness/comparison.h"
#include "harness/comparison_print.h"
#include "harness/html.h"
#include "harness/report.h"

#define PLOTS_MOST 24
#define POINTS_MOST 300 /* of one line: as many as there are pixels to tell apart */
#define WIDTH 760

/* The time that a line is relative to, in seconds. */
static double unit_of(const struct timeline *t)
{
    for (int64_t i = 0; i < t->count; i++)
        if (t->points[i].timed)
            return t->points[i].median.median;
    return 1.0;
}

static void line(FILE *out, const struct timeline *t, const struct axis *x, const struct axis *y,
                 int colour)
{
    const int64_t step = t->count / POINTS_MOST + 1;
    const double unit = unit_of(t);
    char name[SERIES_NAME_SIZE];
    series_implementation_text(&t->key, name, sizeof name);
    fprintf(out, "<g class=\"c%d\"><polyline class=\"path\" points=\"", colour % PLOT_COLOURS);
    for (int64_t i = 0; i < t->count; i += step)
        if (t->points[i].timed)
            fprintf(out, "%.1f,%.1f ", axis_place(x, (double)i),
                    axis_place(y, t->points[i].median.median / unit));
    fprintf(out, "\"/>\n");
    for (int64_t i = 0; i < t->count && t->count <= 60; i++) {
        const struct timeline_point *p = &t->points[i];
        char text[32];
        if (!p->timed)
            continue;
        fprintf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>",
                axis_place(x, (double)i), axis_place(y, p->median.median / unit));
        html_text(out, name);
        fprintf(out, " at ");
        html_text(out, p->newest->commit);
        fprintf(out, ": %s</title></circle>\n", seconds_text(p->median.median, text, sizeof text));
    }
    fprintf(out, "</g>\n");
    for (int64_t i = 0; i < t->count; i++) {
        const struct timeline_point *p = &t->points[i];
        const double at = axis_place(x, (double)i);
        if (p->change) {
            fprintf(out,
                    "<line class=\"change\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\">"
                    "<title>",
                    at, axis_place(y, p->before / unit), at, axis_place(y, p->after / unit));
            html_text(out, name);
            fprintf(out, " × %.3f at ", p->after / p->before);
            html_text(out, p->newest->commit);
            fprintf(out, "</title></line>\n");
        }
        if (record_failed(p->newest))
            svg_text(out, "bad", "middle", at, y->from - 4, "✗");
    }
}

static void changes_of(FILE *out, const struct timeline *t)
{
    char name[SERIES_NAME_SIZE];
    series_implementation_text(&t->key, name, sizeof name);
    for (int64_t i = 0; i < t->count; i++) {
        const struct timeline_point *p = &t->points[i], *before = p;
        char a[32], b[32];
        if (!p->change)
            continue;
        while (before > t->points && !(--before)->timed)
            ;
        fprintf(out, "<li>");
        html_text(out, name);
        fprintf(out, ": %s → %s (× %.3f) in <code>", seconds_text(p->before, a, sizeof a),
                seconds_text(p->after, b, sizeof b), p->after / p->before);
        html_text(out, before->newest->commit);
        fprintf(out, "..");
        html_text(out, p->newest->commit);
        fprintf(out, "</code></li>\n");
    }
}

static void plot(FILE *out, const struct report *r, int64_t from, int64_t to)
{
    double low = INFINITY, high = 0.0;
    int64_t commits = 0;
    for (int64_t i = from; i < to; i++) {
        const struct timeline *t = &r->rows[i].timeline;
        commits = t->count > commits ? t->count : commits;
        for (int64_t k = 0; k < t->count; k++)
            if (t->points[k].timed) {
                low = fmin(low, t->points[k].median.median / unit_of(t));
                high = fmax(high, t->points[k].median.median / unit_of(t));
            }
    }
    const bool logarithmic = high > 20.0 * low;
    const double margin = fmax(0.1 * (high - low), 0.03 * high);
    const struct axis x = {0.0, commits > 1 ? (double)(commits - 1) : 1.0, 70, WIDTH - 20, false};
    const struct axis y =
        logarithmic ? axis_around(low, high, true, 240, 26)
                    : (struct axis){fmax(low - margin, 0.0), high + margin, 240, 26, false};
    char problem[600], label[700];
    const int names = (int)(to - from);
    series_problem_text(&r->rows[from].timeline.key, problem, sizeof problem);
    snprintf(label, sizeof label, "History on %.600s", problem);
    fprintf(out, "<figure class=\"history\"><figcaption>");
    html_text(out, problem);
    fprintf(out, ", %lld commits</figcaption>\n", (long long)commits);
    svg_begin(out, WIDTH, 268 + 20 * ((names + 2) / 3), label);
    svg_axes(out, &x, &y, NULL,
             logarithmic ? "time over the oldest's, logarithmic" : "time over the oldest's");
    svg_text(out, "soft", "end", x.to, y.from + 16, "commits, oldest first");
    for (int64_t i = from; i < to; i++) {
        char name[40], whole[SERIES_NAME_SIZE];
        const int k = (int)(i - from);
        const double at = 80.0 + 225.0 * (k % 3), row = 272.0 + 20.0 * (k / 3);
        if (r->rows[i].timeline.timed > 0)
            line(out, &r->rows[i].timeline, &x, &y, k);
        series_implementation_text(&r->rows[i].timeline.key, whole, sizeof whole);
        snprintf(name, sizeof name, "%.30s", whole);
        fprintf(out,
                "<g class=\"c%d\"><rect class=\"dot\" x=\"%.1f\" y=\"%.1f\" width=\"12\" "
                "height=\"4\"/></g>\n",
                k % PLOT_COLOURS, at - 6, row - 2);
        svg_text(out, "", "start", at + 12, row + 4, name);
    }
    svg_end(out);
    fprintf(out, "<ul>\n");
    for (int64_t i = from; i < to; i++)
        changes_of(out, &r->rows[i].timeline);
    fprintf(out, "</ul></figure>\n");
}

void report_history(FILE *out, const struct report *r)
{
    int drawn = 0, left = 0;
    html_section(out, "history", "History, with changes of level");
    for (int64_t from = 0; from < r->count;) {
        const struct series_key *key = &r->rows[from].timeline.key;
        int64_t to = from, timed = 0;
        for (; to < r->count && r->rows[to].timeline.key.machine == key->machine &&
               r->rows[to].timeline.key.problem == key->problem &&
               r->rows[to].timeline.key.data == key->data;
             to++)
            timed += r->rows[to].timeline.timed;
        if (from == 0 || key->machine != r->rows[from - 1].timeline.key.machine) {
            fprintf(out, "<h3>");
            html_text(out, key->machine);
            fprintf(out, "</h3>\n");
        }
        if (timed > 0 && drawn++ < PLOTS_MOST)
            plot(out, r, from, to);
        else
            left += timed > 0;
        from = to;
    }
    if (left > 0)
        fprintf(out, "<p>%d more problems: assay history shows them.</p>\n", left);
    html_section_end(out);
}
