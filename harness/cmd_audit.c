/* assay audit: would this data and this tolerance catch a wrong kernel? */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/case_source.h"
#include "harness/command.h"
#include "harness/comparator.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/run_list.h"
#include "ref/mutants.h"

/* The rules that a mutant is held against; the first is this program's. */
enum rule { RULE_DERIVED, RULE_PERCENT, RULE_TIGHT, RULE_NMSE, RULE_COUNT };
static const char *const rule_names[RULE_COUNT] = {"derived", "1e-2", "1e-4", "nmse 5e-4"};
#define NMSE_LIMIT 5e-4

/* Rounding the exact output once moves it by no more. */
#define SAME 0x1p-24

struct audit_row {
    const struct mutant *mutant; /* NULL: the reference itself */
    bool same;                   /* as the reference: this data cannot show the fault */
    bool killed[RULE_COUNT];
    bool marginal;
    double max_abs, over_bound, nmse;
};

struct audit {
    const struct case_source *source;
    struct params params;
    float *block; /* all tensors, and one image of y */
    float *x, *y;
    enum arithmetic_class cls;
    int64_t images;
    double max_x;
    struct mutant_engine *engine;
};

static void audit_release(struct audit *a)
{
    mutant_engine_free(a->engine);
    free(a->block);
}

static enum status audit_init(struct audit *a, const struct case_source *source,
                              enum arithmetic_class cls, int64_t images, struct error *error)
{
    const struct problem *p = &source->problem;
    const size_t x = (size_t)problem_input_count(p), w = (size_t)problem_weight_count(p);
    const size_t c = (size_t)p->out_channels, y = (size_t)problem_output_image(p);
    const int64_t most = p->batch < images ? p->batch : images;
    *a = (struct audit){.source = source, .cls = cls, .images = most};
    const size_t bytes = (x + w + c + (size_t)p->bias_count + y) * sizeof(float);
    a->block = bytes < memory_available() ? malloc(bytes) : NULL;
    if (!a->block)
        return error_set(error, STATUS_ENVIRONMENT,
                         "out of memory: the case needs %.1f GB; use a smaller batch",
                         (double)bytes * 1e-9);
    float *at = a->block, *weight, *conv_bias, *bias;
    a->x = at, at += x;
    weight = at, at += w;
    conv_bias = at, at += c;
    bias = at, at += p->bias_count;
    a->y = at;
    a->params = (struct params){weight, p->has_conv_bias ? conv_bias : NULL, bias};
    enum status status = case_source_params(source, weight, conv_bias, bias, error);
    if (status == STATUS_OK)
        status = case_source_input(source, 0, p->batch, a->x, error);
    if (status == STATUS_OK)
        status = mutant_engine_create(&a->engine, p, &a->params, error);
    a->max_x = status == STATUS_OK ? tensor_max_magnitude(a->x, (int64_t)x) : 0.0;
    return status;
}

/* The n-th of the images that are looked at: spread over the batch, the first and the last among
 * them. */
static int64_t image_at(const struct audit *a, int64_t n)
{
    const int64_t batch = a->source->problem.batch;
    return a->images > 1 ? n * (batch - 1) / (a->images - 1) : 0;
}

struct difference {
    double max_abs, squares, reference;
    bool above_percent, above_tight;
};

static void add_difference(const struct audit *a, const float *truth, struct difference *d)
{
    const int64_t n = problem_output_image(&a->source->problem);
    double max_abs = 0.0, squares = 0.0, reference = 0.0;
    int percent = 0, tight = 0;
#pragma omp parallel for schedule(static) reduction(max : max_abs)                                 \
    reduction(+ : squares, reference) reduction(| : percent, tight)
    for (int64_t i = 0; i < n; i++) {
        const double t = (double)truth[i], e = fabs((double)a->y[i] - t);
        if (isnan(t) && isnan(a->y[i]))
            continue;
        max_abs = e > max_abs ? e : isnan(e) ? (double)INFINITY : max_abs;
        squares += e * e;
        reference += t * t;
        percent |= !(e <= 1e-2 + 1e-2 * fabs(t));
        tight |= !(e <= 1e-4 + 1e-4 * fabs(t));
    }
    d->max_abs = fmax(d->max_abs, max_abs);
    d->squares += squares;
    d->reference += reference;
    d->above_percent |= percent != 0;
    d->above_tight |= tight != 0;
}

static enum status judge(struct audit *a, const struct mutant *mutant, struct audit_row *row,
                         struct error *error)
{
    static const struct mutant none;
    const struct problem *p = &a->source->problem;
    const struct tolerance derived = {.rule = TOLERANCE_DERIVED};
    struct comparator *comparator;
    struct comparison_report report;
    struct difference d = {0};
    *row = (struct audit_row){.mutant = mutant};
    enum status status = comparator_create(&comparator, p, &a->params, a->cls, &derived, a->max_x,
                                           arena_poison[0], error);
    for (int64_t i = 0; i < a->images && status == STATUS_OK; i++) {
        const int64_t n = image_at(a, i);
        status = mutant_run(a->engine, mutant ? mutant : &none, a->x, n, a->y, error);
        if (status != STATUS_OK)
            break;
        add_difference(a, mutant_truth(a->engine), &d);
        status =
            comparator_images(comparator, n, 1, a->x + n * problem_input_image(p), a->y, error);
    }
    if (status == STATUS_OK) {
        comparator_report(comparator, &report);
        row->killed[RULE_DERIVED] = report.verdict == VERDICT_FAIL;
        row->marginal = report.verdict == VERDICT_MARGINAL;
        row->over_bound = report.error_over_bound;
        row->max_abs = d.max_abs;
        row->nmse = d.squares == 0.0 ? 0.0 : d.squares / d.reference; /* both 0: no difference */
        row->killed[RULE_PERCENT] = d.above_percent;
        row->killed[RULE_TIGHT] = d.above_tight;
        row->killed[RULE_NMSE] = !(row->nmse <= NMSE_LIMIT);
        row->same = !row->killed[RULE_DERIVED] && d.max_abs <= SAME;
    }
    comparator_free(comparator);
    return status;
}

static const char *outcome(const struct audit_row *row, enum rule rule)
{
    return row->killed[rule]                       ? "killed"
           : row->same                             ? "same"
           : rule == RULE_DERIVED && row->marginal ? "marginal"
                                                   : "PASSES";
}

/* What a rule lets through that is no matter of rounding. */
static bool survives(const struct audit_row *row, enum rule rule)
{
    return row->mutant && !row->mutant->arithmetic && !row->same && !row->killed[rule];
}

static void print_row(const struct audit_row *row)
{
    printf("%-24s %-12s", row->mutant ? row->mutant->name : "(the reference)",
           row->mutant ? row->mutant->stage : "");
    for (int r = 0; r < RULE_COUNT; r++)
        printf(" %-10s", outcome(row, (enum rule)r));
    printf(" %9.2e  %9.3g\n", row->max_abs, row->over_bound);
    fflush(stdout);
}

static void print_row_json(const struct audit *a, const struct audit_row *row)
{
    json_t *o = json_object(), *rules = json_object();
    json_object_set_new(o, "case", record_text(a->source->name));
    json_object_set_new(o, "problem", json_string(a->source->descriptor));
    json_object_set_new(o, "fill",
                        a->source->fill ? json_string(a->source->fill->name) : json_null());
    json_object_set_new(o, "seed",
                        a->source->file ? json_null() : json_integer((json_int_t)a->source->seed));
    json_object_set_new(o, "class", json_string(arithmetic_class_get(a->cls)->name));
    json_object_set_new(o, "mutant", row->mutant ? json_string(row->mutant->name) : json_null());
    json_object_set_new(o, "stage", row->mutant ? json_string(row->mutant->stage) : json_null());
    for (int r = 0; r < RULE_COUNT; r++)
        json_object_set_new(rules, rule_names[r], json_string(outcome(row, (enum rule)r)));
    json_object_set_new(o, "outcome", rules);
    json_object_set_new(o, "max_abs_error", record_number(row->max_abs));
    json_object_set_new(o, "error_over_bound", record_number(row->over_bound));
    json_object_set_new(o, "nmse", record_number(row->nmse));
    record_print(o);
    json_decref(o);
}

/* How far the output moves when a stage is removed, and which rules would not see it. */
static void print_sensitivity(const struct audit_row *rows, size_t count)
{
    printf("\nremoved stage   moves y by   over bound   not seen by\n");
    for (size_t i = 0; i < count; i++) {
        const struct audit_row *row = &rows[i];
        if (!row->mutant || !row->mutant->removes_stage)
            continue;
        printf("%-14s  %10.2e  %11.3g  ", row->mutant->stage, row->max_abs, row->over_bound);
        const char *separator = "";
        for (int r = 0; r < RULE_COUNT; r++)
            if (!row->killed[r]) {
                printf("%s%s", separator, rule_names[r]);
                separator = ", ";
            }
        printf("%s\n", separator[0] ? "  (insensitive)" : " -");
    }
}

static void print_sums(const struct audit_row *rows, size_t count)
{
    int faults = 0, same = 0;
    for (size_t i = 0; i < count; i++) {
        faults += rows[i].mutant && !rows[i].same;
        same += rows[i].mutant && rows[i].same;
    }
    printf("\nof %d wrong kernels that this data can show (%d cannot be told here):", faults, same);
    for (int r = 0; r < RULE_COUNT; r++) {
        int killed = 0;
        for (size_t i = 0; i < count; i++)
            killed += rows[i].mutant && !rows[i].same && rows[i].killed[r];
        printf("%s %s kills %d", r ? "," : "", rule_names[r], killed);
    }
    printf("\n");
}

/* STATUS_FAILED where the derived bound lets a fault through. */
static enum status audit_case(const struct case_source *source, enum arithmetic_class cls,
                              int64_t images, bool json, struct error *error)
{
    struct audit a;
    bool insensitive = false;
    struct audit_row *rows = calloc(mutant_count + 1, sizeof *rows);
    enum status status = rows ? audit_init(&a, source, cls, images, error)
                              : error_set(error, STATUS_ENVIRONMENT, "out of memory");
    if (!rows)
        return status;
    if (!json && status == STATUS_OK)
        printf(
            "%s%s%s, class %s, %lld of %lld images\n%-24s %-12s derived    1e-2       1e-4       "
            "nmse 5e-4  max error  over bound\n",
            source->name, source->fill ? ", fill " : "", source->fill ? source->fill->name : "",
            arithmetic_class_get(cls)->name, (long long)a.images, (long long)source->problem.batch,
            "mutant", "stage");
    for (size_t i = 0; i <= mutant_count && status == STATUS_OK; i++) {
        status = judge(&a, i == 0 ? NULL : &mutant_table[i - 1], &rows[i], error);
        if (status != STATUS_OK)
            break;
        insensitive |= survives(&rows[i], RULE_DERIVED) || (i == 0 && rows[i].killed[RULE_DERIVED]);
        if (json)
            print_row_json(&a, &rows[i]);
        else
            print_row(&rows[i]);
    }
    if (status == STATUS_OK && !json) {
        print_sensitivity(rows, mutant_count + 1);
        print_sums(rows, mutant_count + 1);
    }
    audit_release(&a);
    free(rows);
    return status == STATUS_OK && insensitive ? STATUS_FAILED : status;
}

int cmd_audit(int argc, char **argv)
{
    struct run_arguments arguments = run_arguments_default();
    bool json = false;
    int64_t images = 2;
    const struct option options[] = {
        {"suite", OPTION_STRING, &arguments.suite, "FILE", "also the cases of a suite", 0, 0},
        {"filter", OPTION_STRING, &arguments.filter, "GLOB",
         "only cases whose name or descriptor matches", 0, 0},
        {"fill", OPTION_STRING, &arguments.fill, "NAME", "how descriptors are filled", 0, 0},
        {"seed", OPTION_SEED, &arguments.seed, "N", "seed of the fill, or 'random' (default 1)", 0,
         0},
        {"class", OPTION_STRING, &arguments.cls, "NAME",
         "class that the bound is derived for (default fp32)", 0, 0},
        {"images", OPTION_INTEGER, &images, "N", "images that are looked at (default 2)", 1, 1e9},
        {"threads", OPTION_INTEGER, &arguments.threads, "N", "CPU threads (default: all cores)", 1,
         4096},
        {"json", OPTION_FLAG, &json, NULL, "one JSON object a mutant", 0, 0},
    };
    const struct option_set set = {
        "audit", "[options] CASE...",
        "Holds wrong kernels, each the reference with one fault, against the derived bound and\n"
        "against the rules that are in use elsewhere, on the data of a case: which are caught?\n"
        "Exit status: 0 the derived bound catches every fault that the data can show, 1 it does\n"
        "not, 2 bad request or input, 3 the environment failed.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct run_list list;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    arguments.implementations = "cpu-gemm"; /* none is run */
    if (status == STATUS_OK)
        status = run_list_init(&list, &arguments, argv, words, &error);
    if (status != STATUS_OK)
        return command_error(&error);
    bool failed = false;
    for (size_t i = 0; i < list.cases.count && (status == STATUS_OK || status == STATUS_FAILED);
         i++) {
        const struct suite_entry *entry = &list.cases.entries[i];
        const struct fill *fill = list.fill;
        struct case_source source = {0};
        status = entry->fill[0] ? fill_find(entry->fill, &fill, &error) : STATUS_OK;
        if (status == STATUS_OK)
            status = case_source_open(&source, entry->text, fill,
                                      entry->has_seed ? entry->seed : arguments.seed, &error);
        if (status == STATUS_OK && i > 0 && !json)
            printf("\n");
        if (status == STATUS_OK)
            status = audit_case(&source, list.options.run.cls, images, json, &error);
        failed |= status == STATUS_FAILED;
        case_source_release(&source);
    }
    run_list_release(&list);
    if (status != STATUS_OK && status != STATUS_FAILED)
        return command_error(&error);
    return failed ? STATUS_FAILED : STATUS_OK;
}
