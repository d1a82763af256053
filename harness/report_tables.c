/* The report's tables: verdicts, kill matrix, machines. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/comparison.h"
#include "harness/comparison_print.h"
#include "harness/html.h"
#include "harness/report.h"

static void cell(FILE *out, const char *cls, const char *text)
{
    fprintf(out, "<td class=\"%s\">", cls);
    html_text(out, text);
    fprintf(out, "</td>");
}

static void verdict_cell(FILE *out, const struct record *r)
{
    const bool pass = strcmp(r->verdict, "pass") == 0, bad = record_failed(r);
    fprintf(out, "<td class=\"%s\">%s ",
            pass  ? "good"
            : bad ? "bad"
                  : "warn",
            pass  ? "✓"
            : bad ? "✗"
                  : "~");
    html_text(out, r->verdict);
    fprintf(out, "</td>");
}

static void number_cell(FILE *out, const char *format, double value)
{
    char text[48] = "";
    if (!isnan(value))
        snprintf(text, sizeof text, format, value);
    cell(out, "n", text);
}

static void time_cells(FILE *out, const struct report_row *row)
{
    const struct median *m = &row->last->median;
    char text[64] = "", interval[INTERVAL_TEXT_SIZE];
    if (!row->last->timed) {
        fprintf(out, "<td></td><td></td>");
        return;
    }
    fprintf(out, "<td class=\"n\">%s %s</td>", seconds_text(m->median, text, sizeof text),
            interval_text(m, interval));
    text[0] = 0;
    if (row->record->floor_s > 0.0)
        snprintf(text, sizeof text, "%.2f × floor", m->median / row->record->floor_s);
    else if (row->record->ceiling_gflops > 0.0 && row->record->gflops > 0.0)
        snprintf(text, sizeof text, "%.0f %% of ceiling",
                 100.0 * row->record->gflops / row->record->ceiling_gflops);
    cell(out, "n", text);
}

static void change_cell(FILE *out, const struct timeline *t)
{
    char text[96] = "";
    double ratio = 1.0;
    for (int64_t i = t->count; i-- > 0 && !text[0];)
        if (t->points[i].change) {
            ratio = t->points[i].after / t->points[i].before;
            snprintf(text, sizeof text, "× %.3f at %.12s", ratio, t->points[i].newest->commit);
        }
    cell(out, ratio > 1.0 ? "warn" : "", text);
}

void report_verdicts(FILE *out, const struct report *r)
{
    html_section(out, "verdicts", "Verdicts of the newest commits");
    if (r->count == 0)
        fprintf(out, "<p>No bench records.</p>\n");
    for (int64_t i = 0; i < r->count; i++) {
        const struct report_row *row = &r->rows[i];
        char problem[600], name[SERIES_NAME_SIZE];
        if (i == 0 || row->timeline.key.machine != row[-1].timeline.key.machine) {
            fprintf(out, "<h3>");
            html_text(out, row->timeline.key.machine);
            fprintf(out,
                    "</h3>\n<div class=\"wide\"><table><tr><th>Implementation</th>"
                    "<th>Verdict</th><th class=\"n\">Median, 95 %% interval</th>"
                    "<th class=\"n\">Against the limit</th>"
                    "<th class=\"n\">Error / bound</th><th class=\"n\">Max abs error</th>"
                    "<th>Problem</th><th>Class</th><th>Last change</th><th>Commit</th></tr>\n");
        }
        series_problem_text(&row->timeline.key, problem, sizeof problem);
        series_implementation_text(&row->timeline.key, name, sizeof name);
        fprintf(out, "<tr>");
        cell(out, "", name);
        verdict_cell(out, row->record);
        time_cells(out, row);
        number_cell(out, "%.3g", row->record->error_over_bound);
        number_cell(out, "%.2e", row->record->max_abs_error);
        cell(out, "", problem);
        cell(out, "", row->timeline.key.cls);
        change_cell(out, &row->timeline);
        fprintf(out, "<td><code>");
        html_text(out, row->record->commit);
        fprintf(out, "</code>%s</td>", row->record->dirty ? " changed" : "");
        fprintf(out, "</tr>\n");
        if (record_failed(row->record) && row->record->reason) {
            fprintf(out, "<tr><td></td><td class=\"r bad\" colspan=\"9\">");
            html_text(out, row->record->reason);
            fprintf(out, "</td></tr>\n");
        }
        if (i + 1 == report_machine_end(r, i))
            fprintf(out, "</table></div>\n");
    }
    html_section_end(out);
}

/* ---- kill matrix -------------------------------------------------------------------------------
 */

/* The distinct mutants, or columns, of the audit records, as they came. */
struct names {
    const char *names[256];
    int count;
};

static int find_name(struct names *n, const char *name)
{
    for (int i = 0; i < n->count; i++)
        if (n->names[i] == name)
            return i;
    if (n->count == 256)
        return -1;
    n->names[n->count] = name;
    return n->count++;
}

static void kill_table(FILE *out, const struct record_set *set, const char *problem,
                       const char *fill)
{
    struct names mutants = {.count = 0}, rules = {.count = 0};
    const char **cells = calloc(256 * 256, sizeof *cells);
    for (int64_t i = 0; i < set->count && cells; i++) {
        const struct record *r = &set->records[i];
        if (strcmp(r->kind, "audit") != 0 || r->problem != problem || r->fill != fill)
            continue;
        const int m = find_name(&mutants, r->mutant), c = find_name(&rules, r->rule);
        if (m >= 0 && c >= 0)
            cells[m * 256 + c] = r->outcome; /* the newest record counts */
    }
    fprintf(out, "<h3>");
    html_text(out, problem);
    fprintf(out, "%s", fill ? ", " : "");
    html_text(out, fill);
    fprintf(out, "</h3>\n<div class=\"wide\"><table><tr><th>Wrong kernel</th>");
    for (int c = 0; c < rules.count; c++) {
        fprintf(out, "<th>");
        html_text(out, rules.names[c]);
        fprintf(out, "</th>");
    }
    fprintf(out, "</tr>\n");
    for (int m = 0; m < mutants.count && cells; m++) {
        fprintf(out, "<tr>");
        cell(out, "", mutants.names[m]);
        for (int c = 0; c < rules.count; c++) {
            const char *outcome = cells[m * 256 + c];
            const bool killed = outcome && strcmp(outcome, "killed") == 0,
                       passes = outcome && strcmp(outcome, "PASSES") == 0;
            fprintf(out, "<td class=\"%s\">%s",
                    killed   ? "good"
                    : passes ? "bad"
                             : "warn",
                    killed   ? "✓ "
                    : passes ? "✗ "
                             : "");
            html_text(out, outcome);
            fprintf(out, "</td>");
        }
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table></div>\n");
    free(cells);
}

void report_kill_matrix(FILE *out, const struct report *r)
{
    const struct record_set *set = r->set;
    const char *seen[64][2];
    int count = 0;
    html_section(out, "kills", "Kill matrix: which wrong kernels are caught");
    for (int64_t i = 0; i < set->count; i++) {
        const struct record *record = &set->records[i];
        if (strcmp(record->kind, "audit") != 0)
            continue;
        int k = 0;
        while (k < count && (seen[k][0] != record->problem || seen[k][1] != record->fill))
            k++;
        if (k < count || count == 64)
            continue;
        seen[count][0] = record->problem;
        seen[count++][1] = record->fill;
        kill_table(out, set, record->problem, record->fill);
    }
    if (count == 0)
        fprintf(out, "<p>No audit records.</p>\n");
    html_section_end(out);
}

/* ---- machines ----------------------------------------------------------------------------------
 */

static void text_row(FILE *out, const char *name, const char *value)
{
    if (!value)
        return;
    fprintf(out, "<tr><th>%s</th><td class=\"r\">", name);
    html_text(out, value);
    fprintf(out, "</td></tr>\n");
}

static void number_row(FILE *out, const char *name, const char *format, double value)
{
    char text[64];
    if (!(value > 0.0))
        return;
    snprintf(text, sizeof text, format, value);
    text_row(out, name, text);
}

/* The newest record of a machine that has a device, where one has, tells most. */
static const struct record *speaker(const struct report *r, int64_t from, int64_t to)
{
    const struct record *best = r->rows[from].record;
    for (int64_t i = from; i < to; i++) {
        const struct record *one = r->rows[i].record;
        if ((one->device != NULL) > (best->device != NULL) ||
            ((one->device != NULL) == (best->device != NULL) && series_compare_age(one, best) > 0))
            best = one;
    }
    return best;
}

/* The largest ceiling of a kind that the machine's newest records measured. */
static double ceiling(const struct report *r, int64_t from, int64_t to, size_t offset)
{
    double most = 0.0;
    for (int64_t i = from; i < to; i++)
        most = fmax(most, *(const double *)((const char *)r->rows[i].record + offset));
    return most;
}

static void calibration_rows(FILE *out, const struct record_set *set, const char *machine)
{
    char text[160];
    for (int64_t i = 0; i < set->count && set->calibrations > 0; i++) {
        const struct record *c = &set->records[i];
        if (strcmp(c->kind, "calibration") != 0 || c->machine != machine)
            continue;
        snprintf(text, sizeof text,
                 "%.40s: interleaved noise %.2f %%, smallest visible slowdown %.2f %%; runs apart "
                 "%.2f %%",
                 c->implementation, 100.0 * c->interleaved_noise, 100.0 * c->smallest_visible,
                 100.0 * c->separate_noise);
        text_row(out, "Calibration", text);
    }
}

void report_machines(FILE *out, const struct report *r)
{
    html_section(out, "machines", "Machines");
    for (int64_t from = 0; from < r->count;) {
        const int64_t to = report_machine_end(r, from);
        const struct record *m = speaker(r, from, to);
        fprintf(out, "<h3>");
        html_text(out, m->machine);
        fprintf(out, "</h3>\n<div class=\"wide\"><table>\n");
        text_row(out, "CPU", m->cpu);
        number_row(out, "Cores", "%.0f", m->cores);
        number_row(out, "Memory", "%.1f GB", m->memory_gb);
        text_row(out, "System", m->os);
        text_row(out, "Libraries", m->libraries);
        text_row(out, "GPU", m->device);
        text_row(out, "Driver", m->driver);
        text_row(out, "Throttled", m->throttle && m->throttle[0] ? m->throttle : NULL);
#define CEILING(member) ceiling(r, from, to, offsetof(struct record, member))
        number_row(out, "Ceiling of the class", "%.4g GFLOP/s", CEILING(ceiling_gflops));
        number_row(out, "fp32", "%.4g TFLOP/s", CEILING(ceiling_fp32_tflops));
        number_row(out, "tf32", "%.4g TFLOP/s", CEILING(ceiling_tf32_tflops));
        number_row(out, "fp16", "%.4g TFLOP/s", CEILING(ceiling_fp16_tflops));
        number_row(out, "Copy", "%.4g GB/s", CEILING(ceiling_copy_gbytes_per_s));
        number_row(out, "Write", "%.4g GB/s", CEILING(ceiling_write_gbytes_per_s));
#undef CEILING
        calibration_rows(out, r->set, m->machine);
        text_row(out, "Measured by", m->version);
        fprintf(out, "</table></div>\n");
        from = to;
    }
    html_section_end(out);
}
