/* assay check: the comparator on an output that something else made. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/attribution.h"
#include "harness/command.h"
#include "harness/options.h"
#include "harness/progress.h"
#include "harness/record.h"
#include "harness/tally.h"

/* Which of the known faults does the worst image show? Needs the whole input at once; where memory
 * does not hold it, the verdict stands without. */
static enum status name_the_fault(const struct case_source *s, struct output_file *output,
                                  const struct params *params, struct trial *t, struct error *error)
{
    const struct problem *p = &s->problem;
    const int64_t n = t->report.worst.n;
    struct attribution a = {0};
    float *x = malloc((size_t)problem_input_count(p) * sizeof *x);
    float *y = malloc((size_t)problem_output_image(p) * sizeof *y);
    enum status status = STATUS_OK;
    if (x && y) {
        status = case_source_input(s, 0, p->batch, x, error);
        if (status == STATUS_OK)
            status = output_file_read(output, n, 1, y, error);
        if (status == STATUS_OK)
            status = attribute(p, params, x, n, y, ATTRIBUTION_SECONDS, &a, error);
        if (status == STATUS_OK)
            attribution_describe(&a, t->looks_like, sizeof t->looks_like);
    }
    free(x);
    free(y);
    return status;
}

/* Loads what the comparator needs; images are streamed. */
static enum status compare_file(const struct case_source *s, struct output_file *output,
                                enum arithmetic_class cls, const struct tolerance *tolerance,
                                struct trial *t, struct error *error)
{
    const struct problem *p = &s->problem;
    const size_t in = (size_t)problem_input_image(p), out = (size_t)problem_output_image(p);
    struct comparator *comparator = NULL;
    struct progress progress;
    double max_x = 0.0;
    float *weight = malloc((size_t)problem_weight_count(p) * sizeof *weight);
    float *conv_bias = malloc((size_t)p->out_channels * sizeof *conv_bias);
    float *bias = malloc((size_t)p->bias_count * sizeof *bias);
    float *x = malloc(in * sizeof *x), *y = malloc(out * sizeof *y);
    enum status status;
    if (!weight || !conv_bias || !bias || !x || !y) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for one image of '%.100s'",
                           s->name);
        goto out;
    }
    const struct params params = {weight, p->has_conv_bias ? conv_bias : NULL, bias};
    status = case_source_params(s, weight, conv_bias, bias, error);
    for (int64_t n = 0; n < p->batch && status == STATUS_OK; n++) {
        status = case_source_input(s, n, 1, x, error);
        const double largest = status == STATUS_OK ? tensor_max_magnitude(x, (int64_t)in) : 0.0;
        max_x = largest > max_x ? largest : max_x;
    }
    /* A file holds what somebody wrote into it: no bit pattern means unwritten. The comparator's
     * poison is a NaN, so elements that hold it by accident fail either way. */
    if (status == STATUS_OK)
        status = comparator_create(&comparator, p, &params, cls, tolerance, max_x, arena_poison[0],
                                   error);
    progress_begin(&progress, "check", "images", p->batch);
    for (int64_t n = 0; n < p->batch && status == STATUS_OK; n++) {
        status = case_source_input(s, n, 1, x, error);
        if (status == STATUS_OK)
            status = output_file_read(output, n, 1, y, error);
        if (status == STATUS_OK)
            status = comparator_images(comparator, n, 1, x, y, error);
        progress_step(&progress, 1);
    }
    progress_end(&progress);
    if (status == STATUS_OK) {
        comparator_report(comparator, &t->report);
        trial_explain(t);
        if (t->verdict != VERDICT_PASS && t->report.has_worst)
            status = name_the_fault(s, output, &params, t, error);
    }
out:
    comparator_free(comparator);
    free(weight);
    free(conv_bias);
    free(bias);
    free(x);
    free(y);
    return status;
}

struct check_arguments {
    const char *cls, *tolerance, *fill;
    uint64_t seed;
    int64_t threads;
    bool json;
};

static enum status check(const struct check_arguments *a, char **words, int word_count,
                         struct trial *t, struct error *error)
{
    struct case_source source = {0};
    struct output_file *output = NULL;
    struct tolerance tolerance;
    const struct fill *fill;
    enum status status = STATUS_OK;
    if (word_count != 2)
        return error_set(error, STATUS_BAD_INPUT,
                         "check takes a case and an output file, %d words were given", word_count);
    omp_set_num_threads((int)a->threads);
    status = arithmetic_class_parse(a->cls, &t->cls, error);
    if (status == STATUS_OK)
        status = tolerance_parse(a->tolerance, &tolerance, error);
    if (status == STATUS_OK)
        status = fill_find(a->fill, &fill, error);
    if (status == STATUS_OK)
        status = case_source_open(&source, words[0], fill, a->seed, error);
    if (status == STATUS_OK && source.file)
        status = case_file_check_sums(source.file, NULL, error);
    if (status == STATUS_OK)
        status = output_file_open(&output, words[1], &source.problem, error);
    if (status == STATUS_OK)
        status = compare_file(&source, output, t->cls, &tolerance, t, error);
    if (status == STATUS_OK) {
        snprintf(t->implementation, sizeof t->implementation, "%.1000s", words[1]);
        if (a->json) {
            struct run_list list = {.arguments = run_arguments_default(),
                                    .options = {.tolerance = tolerance}};
            list.arguments.cls = a->cls;
            list.arguments.tolerance = a->tolerance;
            const struct record_context context = {.list = &list};
            json_t *record = record_verdict(&context, &source, t);
            char line[2048];
            run_reproduce(&list, &source, t, "check", line, sizeof line);
            json_object_set_new(record, "reproduce", record_text(line));
            record_print(record);
            json_decref(record);
        } else {
            tally_print_verdict(t, source.name);
            printf("  err %.2e  err/bound %.3g\n", t->report.max_abs_error,
                   t->report.error_over_bound);
            if (t->verdict != VERDICT_PASS)
                printf("    %s\n", t->reason);
            if (t->looks_like[0])
                printf("    looks like: %s\n", t->looks_like);
            if (t->report.has_narrowest)
                printf("    consistent with %s\n", arithmetic_class_get(t->report.narrowest)->name);
        }
    }
    output_file_free(output);
    case_source_release(&source);
    return status;
}

int cmd_check(int argc, char **argv)
{
    struct check_arguments a = {.cls = "fp32",
                                .tolerance = "derived",
                                .fill = "conditioned",
                                .seed = 1,
                                .threads = omp_get_num_procs()};
    const struct option options[] = {
        {"class", OPTION_STRING, &a.cls, "NAME", "class claimed for the output (default fp32)", 0,
         0},
        {"tolerance", OPTION_STRING, &a.tolerance, "RULE", "derived (default), or ATOL,RTOL", 0, 0},
        {"fill", OPTION_STRING, &a.fill, "NAME", "where the case is a descriptor", 0, 0},
        {"seed", OPTION_SEED, &a.seed, "N", "where the case is a descriptor (default 1)", 0, 0},
        {"threads", OPTION_INTEGER, &a.threads, "N", "CPU threads (default: all cores)", 1, 4096},
        {"json", OPTION_FLAG, &a.json, NULL, "one JSON object", 0, 0},
    };
    const struct option_set set = {
        "check", "[options] CASE OUTPUT.h5",
        "Compares /output of OUTPUT.h5 with the oracle's expectation for CASE, element by "
        "element,\n"
        "under the error bound of the class. Exit status: 0 pass, 1 fail, 2 bad input.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct trial *t = calloc(1, sizeof *t);
    if (!t) {
        error_set(&error, STATUS_ENVIRONMENT, "out of memory");
        return command_error(&error);
    }
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (status == STATUS_OK && !helped)
        status = check(&a, argv, words, t, &error);
    struct tally tally = {0};
    tally_add(&tally, t);
    free(t);
    if (status != STATUS_OK)
        return command_error(&error);
    return helped ? STATUS_OK : tally_status(&tally);
}
