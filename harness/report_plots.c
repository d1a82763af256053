/* The report's plots of the newest commits: ladder, roofline, errors over bound. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/comparison_print.h"
#include "harness/html.h"
#include "harness/report.h"

#define PLOTS_MOST 24 /* of one kind: more would be a page that nobody reads */
#define WIDTH 760

static bool same_problem(const struct report_row *a, const struct report_row *b)
{
    return a->timeline.key.machine == b->timeline.key.machine &&
           a->timeline.key.problem == b->timeline.key.problem &&
           a->timeline.key.data == b->timeline.key.data;
}

/* ---- ladder ------------------------------------------------------------------------------------
 */

static void ladder(FILE *out, const struct report *r, int64_t from, int64_t to)
{
    double low = INFINITY, high = 0.0, floor_s = 0.0;
    int bars = 0;
    for (int64_t i = from; i < to; i++)
        if (r->rows[i].last->timed) {
            low = fmin(low, r->rows[i].last->median.low);
            high = fmax(high, r->rows[i].last->median.high);
            if (r->rows[i].record->floor_s > 0.0)
                floor_s = floor_s > 0.0 ? fmin(floor_s, r->rows[i].record->floor_s)
                                        : r->rows[i].record->floor_s;
            bars++;
        }
    if (bars == 0)
        return;
    const bool logarithmic = high > 20.0 * low;
    const double least = floor_s > 0.0 ? fmin(low, floor_s) : low;
    const int height = 30 + 24 * bars + 44;
    const struct axis y = {0.0, 1.0, height - 44.0, 20.0, false};
    struct axis x = {0.0, 1.12e3 * high, 210.0, WIDTH - 90.0, false};
    if (logarithmic)
        x = axis_around(0.5e3 * least, 1e3 * high, true, 210.0, WIDTH - 90.0);
    char problem[600], label[700], text[48];
    series_problem_text(&r->rows[from].timeline.key, problem, sizeof problem);
    snprintf(label, sizeof label, "Times on %.600s", problem);
    fprintf(out, "<figure class=\"ladder\"><figcaption>");
    html_text(out, label);
    fprintf(out, ": median and its 95 %% interval%s</figcaption>\n",
            logarithmic ? ", logarithmic" : "");
    svg_begin(out, WIDTH, height, label);
    double ticks[34];
    const int n = axis_ticks(&x, 8, ticks);
    for (int i = 0; i < n; i++) {
        const double at = axis_place(&x, ticks[i]);
        svg_line(out, "grid", at, y.from, at, y.to);
        svg_text(out, "soft", "middle", at, y.from + 16, short_number(ticks[i], text, sizeof text));
    }
    svg_text(out, "soft", "end", x.to, y.from + 34, "ms");
    int bar = 0;
    for (int64_t i = from; i < to; i++) {
        const struct report_row *row = &r->rows[i];
        if (!row->last->timed)
            continue;
        const struct median *m = &row->last->median;
        const double top = 24.0 + 24.0 * bar++, end = axis_place(&x, 1e3 * m->median);
        char name[40], whole[SERIES_NAME_SIZE];
        series_implementation_text(&row->timeline.key, whole, sizeof whole);
        snprintf(name, sizeof name, "%.32s%s", whole, strlen(whole) > 32 ? "..." : "");
        svg_text(out, "", "end", 202, top + 14, name);
        fprintf(out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"16\"/>\n",
                x.from, top + 1, fmax(end - x.from, 1.0));
        svg_line(out, "whisker", axis_place(&x, 1e3 * m->low), top + 9,
                 axis_place(&x, 1e3 * m->high), top + 9);
        svg_line(out, "whisker", axis_place(&x, 1e3 * m->low), top + 5,
                 axis_place(&x, 1e3 * m->low), top + 13);
        svg_line(out, "whisker", axis_place(&x, 1e3 * m->high), top + 5,
                 axis_place(&x, 1e3 * m->high), top + 13);
        svg_text(out, "", "start", axis_place(&x, 1e3 * m->high) + 6, top + 14,
                 seconds_text(m->median, text, sizeof text));
    }
    if (floor_s > 0.0) {
        svg_line(out, "limit", axis_place(&x, 1e3 * floor_s), y.from, axis_place(&x, 1e3 * floor_s),
                 y.to);
        svg_text(out, "soft", "middle", axis_place(&x, 1e3 * floor_s), 14, "floor");
    }
    svg_end(out);
    fprintf(out, "</figure>\n");
}

void report_ladder(FILE *out, const struct report *r)
{
    int drawn = 0, left = 0;
    html_section(out, "ladder", "Times, implementation by implementation");
    for (int64_t from = 0; from < r->count;) {
        int64_t to = from;
        while (to < r->count && same_problem(&r->rows[from], &r->rows[to]))
            to++;
        if (from == 0 ||
            r->rows[from].timeline.key.machine != r->rows[from - 1].timeline.key.machine) {
            fprintf(out, "<h3>");
            html_text(out, r->rows[from].timeline.key.machine);
            fprintf(out, "</h3>\n");
        }
        if (drawn < PLOTS_MOST) {
            ladder(out, r, from, to);
            drawn++;
        } else {
            left++;
        }
        from = to;
    }
    if (left > 0)
        fprintf(out, "<p>%d more problems are in the table above only.</p>\n", left);
    html_section_end(out);
}

/* ---- roofline ----------------------------------------------------------------------------------
 */

struct roof {
    const char *name;
    double gflops;
};

/* The roofs that this machine's records measured, each once, at their highest. */
static int find_roofs(const struct report *r, int64_t from, int64_t to, struct roof *roofs,
                      double *copy)
{
    static const struct {
        const char *name;
        size_t offset;
        double scale;
    } kinds[] = {{"sgemm", offsetof(struct record, ceiling_gflops), 1.0},
                 {"fp32", offsetof(struct record, ceiling_fp32_tflops), 1e3},
                 {"tf32", offsetof(struct record, ceiling_tf32_tflops), 1e3},
                 {"fp16", offsetof(struct record, ceiling_fp16_tflops), 1e3}};
    int n = 0;
    *copy = 0.0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double most = 0.0;
        for (int64_t i = from; i < to; i++)
            most = fmax(most, kinds[k].scale * *(const double *)((const char *)r->rows[i].record +
                                                                 kinds[k].offset));
        if (most > 0.0)
            roofs[n++] = (struct roof){kinds[k].name, most};
    }
    for (int64_t i = from; i < to; i++)
        *copy = fmax(*copy, r->rows[i].record->ceiling_copy_gbytes_per_s);
    return n;
}

static bool in_roofline(const struct report_row *row)
{
    return row->last->timed && row->record->gflops > 0.0 && row->record->gbytes_per_s > 0.0;
}

/* One colour an implementation, in the order of appearance. */
static int colour_of(const char **names, int *count, const char *name)
{
    for (int i = 0; i < *count; i++)
        if (names[i] == name)
            return i;
    if (*count == 64)
        return 63;
    names[*count] = name;
    return (*count)++;
}

static void draw_roofs(FILE *out, const struct axis *x, const struct axis *y,
                       const struct roof *roofs, int n, double copy)
{
    char text[96], number[32];
    for (int i = 0; i < n; i++) {
        const double ridge = copy > 0.0 ? roofs[i].gflops / copy : x->low;
        svg_line(out, "roof", axis_place(x, fmax(ridge, x->low)), axis_place(y, roofs[i].gflops),
                 x->to, axis_place(y, roofs[i].gflops));
        snprintf(text, sizeof text, "%s %s GFLOP/s", roofs[i].name,
                 short_number(roofs[i].gflops, number, sizeof number));
        svg_text(out, "soft", "end", x->to, axis_place(y, roofs[i].gflops) - 4, text);
    }
    if (copy <= 0.0)
        return;
    double top = 0.0;
    for (int i = 0; i < n; i++)
        top = fmax(top, roofs[i].gflops);
    const double from = fmax(x->low, y->low / copy), to = fmin(x->high, top / copy);
    if (!(to > from))
        return;
    svg_line(out, "roof", axis_place(x, from), axis_place(y, from * copy), axis_place(x, to),
             axis_place(y, to * copy));
    snprintf(text, sizeof text, "copy %s GB/s", short_number(copy, number, sizeof number));
    const double middle = sqrt(from * to); /* beside the slope, not on it */
    svg_text(out, "soft", "end", axis_place(x, middle) - 8, axis_place(y, middle * copy) - 4, text);
}

static void roofline(FILE *out, const struct report *r, int64_t from, int64_t to)
{
    struct roof roofs[4];
    double copy, least_x = INFINITY, most_x = 0.0, least_y = INFINITY, most_y = 0.0;
    const char *names[64], *machine = r->rows[from].timeline.key.machine;
    int name_count = 0;
    const int n = find_roofs(r, from, to, roofs, &copy);
    for (int64_t i = from; i < to; i++) {
        const struct record *record = r->rows[i].record;
        if (!in_roofline(&r->rows[i]))
            continue;
        const double intensity = record->gflops / record->gbytes_per_s;
        least_x = fmin(least_x, intensity);
        most_x = fmax(most_x, intensity);
        least_y = fmin(least_y, record->gflops);
        most_y = fmax(most_y, record->gflops);
    }
    if (most_x == 0.0)
        return;
    for (int i = 0; i < n; i++) {
        most_y = fmax(most_y, roofs[i].gflops);
        if (copy > 0.0) { /* the ridges are to be seen */
            least_x = fmin(least_x, roofs[i].gflops / copy);
            most_x = fmax(most_x, roofs[i].gflops / copy);
        }
    }
    const struct axis x = axis_around(least_x / 3.0, most_x * 3.0, true, 70, WIDTH - 20),
                      y = axis_around(least_y / 2.0, most_y * 1.3, true, 380, 26);
    fprintf(out, "<figure class=\"roofline\"><figcaption>");
    html_text(out, machine);
    fprintf(out, ": points are implementations, lines the ceilings measured in the same runs"
                 "</figcaption>\n");
    char label[400];
    snprintf(label, sizeof label, "Roofline of %.300s", machine);
    const int shown = (int)(to - from) < 64 ? (int)(to - from) : 64;
    svg_begin(out, WIDTH, 424 + 20 * ((shown + 2) / 3), label);
    svg_axes(out, &x, &y, "FLOP per byte that must move", "GFLOP/s");
    draw_roofs(out, &x, &y, roofs, n, copy);
    for (int64_t i = from; i < to; i++) {
        const struct report_row *row = &r->rows[i];
        char title[900], problem[600], name[SERIES_NAME_SIZE];
        if (!in_roofline(row))
            continue;
        series_problem_text(&row->timeline.key, problem, sizeof problem);
        series_implementation_text(&row->timeline.key, name, sizeof name);
        snprintf(title, sizeof title, "%.100s on %s: %.4g GFLOP/s, %.4g GB/s", name, problem,
                 row->record->gflops, row->record->gbytes_per_s);
        svg_mark(out, colour_of(names, &name_count, row->timeline.key.implementation),
                 axis_place(&x, row->record->gflops / row->record->gbytes_per_s),
                 axis_place(&y, row->record->gflops), title);
    }
    for (int i = 0; i < name_count; i++) {
        char name[40];
        const double at = 80.0 + 225.0 * (i % 3), line = 434.0 + 20.0 * (i / 3);
        snprintf(name, sizeof name, "%.30s", names[i]);
        svg_mark(out, i, at, line, name);
        svg_text(out, "", "start", at + 12, line + 4, name);
    }
    svg_end(out);
    fprintf(out, "</figure>\n");
}

void report_roofline(FILE *out, const struct report *r)
{
    html_section(out, "roofline", "Roofline");
    for (int64_t from = 0; from < r->count;) {
        const int64_t to = report_machine_end(r, from);
        roofline(out, r, from, to);
        from = to;
    }
    html_section_end(out);
}

/* ---- errors ------------------------------------------------------------------------------------
 */

#define BINS 24 /* four to a factor of ten, from 1e-4 to 1e2 */

void report_errors(FILE *out, const struct report *r)
{
    int64_t counts[BINS] = {0}, most = 0, total = 0;
    html_section(out, "errors", "Error over bound");
    for (int64_t i = 0; i < r->count; i++) {
        const double e = r->rows[i].record->error_over_bound;
        if (isnan(e))
            continue;
        int bin = e > 0.0 ? (int)floor(4.0 * (log10(e) + 4.0)) : 0;
        bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
        counts[bin]++;
        most = counts[bin] > most ? counts[bin] : most;
        total++;
    }
    if (total == 0) {
        fprintf(out, "<p>No record compares an output with its bound.</p>\n");
        html_section_end(out);
        return;
    }
    const struct axis x = {1e-4, 1e2, 70, WIDTH - 20, true};
    const struct axis y = {0.0, 1.1 * (double)most, 220, 26, false};
    fprintf(out,
            "<figure class=\"errors\"><figcaption>The worst element of each of %lld newest "
            "records: up to 1 passes</figcaption>\n",
            (long long)total);
    svg_begin(out, WIDTH, 262, "Histogram of the error over the bound");
    svg_axes(out, &x, &y, "largest error / probabilistic bound", "records");
    for (int b = 0; b < BINS; b++) {
        const double left = axis_place(&x, pow(10.0, -4.0 + b / 4.0)),
                     right = axis_place(&x, pow(10.0, -4.0 + (b + 1) / 4.0)),
                     top = axis_place(&y, (double)counts[b]);
        if (counts[b] > 0)
            fprintf(out,
                    "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                    "<title>%lld</title></rect>\n",
                    left + 1, top, right - left - 2, y.from - top, (long long)counts[b]);
    }
    svg_line(out, "limit", axis_place(&x, 1.0), y.from, axis_place(&x, 1.0), y.to);
    svg_text(out, "soft", "start", axis_place(&x, 1.0) + 5, 36, "bound");
    svg_end(out);
    fprintf(out, "</figure>\n");
    html_section_end(out);
}
