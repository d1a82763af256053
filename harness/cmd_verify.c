/* assay verify: run implementations on cases, a verdict for each. */
#include <stdio.h>
#include <unistd.h>

#include "harness/command.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/run_list.h"
#include "harness/tally.h"

struct verify_context {
    struct record_context record;
    bool json;
    struct tally tally;
};

static void print_verdict(const struct verify_context *v, const struct case_source *source,
                          const struct trial *t)
{
    char reproduce[2048];
    tally_print_verdict(t, source->name);
    if (t->compared)
        printf("  err %.2e  err/bound %-8.3g %8.3f s", t->report.max_abs_error,
               t->report.error_over_bound, t->seconds);
    printf("\n");
    if (t->verdict != VERDICT_PASS)
        printf("    %s\n", t->reason);
    if (t->looks_like[0])
        printf("    looks like: %s\n", t->looks_like);
    if (t->compared && t->report.compared > 0 &&
        (t->report.without_convolution <= 1.0 || t->report.without_softmax <= 1.0))
        printf("    insensitive: leaving out the %s moves the output by %.2g of what is allowed\n",
               t->report.without_convolution <= 1.0 ? "convolution" : "softmax",
               t->report.without_convolution <= 1.0 ? t->report.without_convolution
                                                    : t->report.without_softmax);
    if (t->differing_images > 0)
        printf("    not reproducible: %lld images differ between runs of the same input\n",
               (long long)t->differing_images);
    if (t->compared && !t->claim_broken && t->report.has_narrowest && t->report.narrowest > t->cls)
        printf("    claims %s, is consistent with %s\n", arithmetic_class_get(t->cls)->name,
               arithmetic_class_get(t->report.narrowest)->name);
    if (t->verdict != VERDICT_PASS && t->verdict != VERDICT_SKIPPED) {
        run_reproduce(v->record.list, source, t, "verify", reproduce, sizeof reproduce);
        printf("    again: %s\n", reproduce);
    }
    fflush(stdout);
}

static bool visit(void *context, const struct case_source *source, const struct trial *trial)
{
    struct verify_context *v = context;
    tally_add(&v->tally, trial);
    if (v->json) {
        json_t *record = record_verdict(&v->record, source, trial);
        record_print(record);
        json_decref(record);
    } else {
        /* Rows that nobody asked for are counted, not listed. */
        if (trial->verdict != VERDICT_SKIPPED || v->record.list->arguments.implementations)
            print_verdict(v, source, trial);
    }
    return true;
}

int cmd_verify(int argc, char **argv)
{
    struct run_arguments arguments = run_arguments_default();
    bool json = false;
    const struct option options[] = {
        RUN_OPTIONS(arguments),
        {"json", OPTION_FLAG, &json, NULL, "one JSON object a line", 0, 0},
    };
    const struct option_set set = {
        "verify", "[options] CASE...",
        "Runs implementations on cases, each in a process of its own, and compares every element\n"
        "with an fp64 oracle under the error bound of the implementation's arithmetic class.\n"
        "CASE is a case file (.h5), a descriptor, or home[@mbN].\n"
        "Exit status: 0 all pass, 1 one failed, 2 bad request or input, 3 the environment failed.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct run_list list;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK)
        status = run_list_init(&list, &arguments, argv, words, &error);
    if (status != STATUS_OK)
        return command_error(&error);

    struct verify_context v = {.record = {.list = &list}, .json = json};
    status = run_list_walk(&list, NULL, visit, &v, &error);
    if (!json)
        tally_print(&v.tally);
    run_list_release(&list);
    if (status != STATUS_OK)
        return command_error(&error);
    return tally_status(&v.tally);
}
