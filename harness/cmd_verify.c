/* assay verify: run implementations on cases, a verdict for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/capsule.h"
#include "harness/command.h"
#include "harness/junit.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/resume.h"
#include "harness/run_list.h"
#include "harness/tally.h"

struct verify_context {
    struct record_context record;
    bool json;
    const char *out, *capsules; /* NULL: none */
    struct resume done;         /* verdicts of an earlier run */
    int64_t resumed;
    struct junit *junit; /* NULL: none */
    struct tally tally;
    enum status status; /* of the files that are written */
    struct error *error;
};

static void print_verdict(const struct verify_context *v, const struct case_source *source,
                          const struct trial *t)
{
    char reproduce[2048];
    tally_print_verdict(t, source->name);
    if (t->compared)
        printf("  err %-8.2e  err/bound %-8.3g %8.3f s", t->report.max_abs_error,
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
    tally_print_repeats(t);
    if (t->compared && !t->claim_broken && t->report.has_narrowest && t->report.narrowest > t->cls)
        printf("    claims %s, is consistent with %s\n", arithmetic_class_get(t->cls)->name,
               arithmetic_class_get(t->report.narrowest)->name);
    if (t->verdict != VERDICT_PASS && t->verdict != VERDICT_SKIPPED) {
        run_reproduce(v->record.list, source, t, "verify", reproduce, sizeof reproduce);
        printf("    again: %s\n", reproduce);
    }
    fflush(stdout);
}

static bool is_failure(const struct trial *t)
{
    return t->verdict == VERDICT_FAIL || t->verdict == VERDICT_CRASHED ||
           t->verdict == VERDICT_TIMEOUT;
}

/* Prints the line that runs it again. */
static enum status write_capsule(struct verify_context *v, const struct case_source *source,
                                 const struct trial *t, const json_t *verdict)
{
    char path[1024];
    json_t *record = json_deep_copy(verdict);
    json_object_set_new(record, "machine", record_text(v->record.machine.id));
    json_object_set_new(record, "commit", record_text(v->record.provenance.commit));
    char *text = json_dumps(record, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    const enum status status =
        text ? capsule_write(v->capsules, source, t, text, path, sizeof path, v->error)
             : error_set(v->error, STATUS_ENVIRONMENT, "out of memory for a capsule");
    free(text);
    json_decref(record);
    if (status == STATUS_OK)
        fprintf(v->json ? stderr : stdout, "    capsule: assay replay %s\n", path);
    return status;
}

/* Every verdict is on disk before the next trial begins. */
static bool visit(void *context, const struct case_source *source, const struct trial *t)
{
    struct verify_context *v = context;
    json_t *record = record_verdict(&v->record, source, t);
    tally_add(&v->tally, t);
    if (v->out)
        v->status = record_append(v->out, record, v->error);
    if (v->json)
        record_print(record);
    /* Rows that nobody asked for are counted, not listed. */
    else if (t->verdict != VERDICT_SKIPPED || v->record.list->arguments.implementations)
        print_verdict(v, source, t);
    if (v->status == STATUS_OK && v->capsules && is_failure(t) && t->arena)
        v->status = write_capsule(v, source, t, record);
    if (v->junit)
        junit_add(v->junit, source->name, t,
                  json_string_value(json_object_get(record, "reproduce")));
    json_decref(record);
    return v->status == STATUS_OK;
}

static void take_text(const json_t *record, const char *key, char *text, size_t size)
{
    const char *value = json_string_value(json_object_get(record, key));
    snprintf(text, size, "%s", value ? value : "");
}

static bool skip(void *context, const struct case_source *source, const char *implementation,
                 const char *reproduce, bool ask)
{
    struct verify_context *v = context;
    char identity[RESUME_IDENTITY_SIZE];
    struct trial t = {0};
    resume_identity(v->record.provenance.binary, source, implementation, identity);
    const json_t *record = resume_find(&v->done, reproduce, identity, &t.verdict);
    if (!record || ask)
        return record != NULL;
    snprintf(t.implementation, sizeof t.implementation, "%s", implementation);
    take_text(record, "reason", t.reason, sizeof t.reason);
    take_text(record, "looks_like", t.looks_like, sizeof t.looks_like);
    t.seconds = json_number_value(json_object_get(record, "seconds"));
    tally_add(&v->tally, &t);
    if (v->junit)
        junit_add(v->junit, source->name, &t, reproduce);
    v->resumed++;
    return true;
}

int cmd_verify(int argc, char **argv)
{
    struct run_arguments arguments = run_arguments_default();
    bool json = false, resume = false;
    const char *out = NULL, *capsules = NULL, *junit_path = NULL;
    const struct option options[] = {
        RUN_OPTIONS(arguments),
        {"out", OPTION_STRING, &out, "FILE", "also append each verdict to FILE (.jsonl) at once", 0,
         0},
        {"resume", OPTION_FLAG, &resume, NULL,
         "leave out what stands in --out FILE already, of the same program and files", 0, 0},
        {"junit", OPTION_STRING, &junit_path, "FILE", "also write the verdicts as JUnit XML", 0, 0},
        {"capsule", OPTION_STRING, &capsules, "DIR",
         "leave a file for `assay replay` of each failure in DIR", 0, 0},
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

    struct verify_context v = {.json = json, .out = out, .capsules = capsules, .error = &error};
    if (resume && !out)
        status = error_set(&error, STATUS_BAD_INPUT,
                           "--resume needs --out FILE, whose verdicts it "
                           "leaves out");
    if (status == STATUS_OK && out && junit_path && strcmp(out, junit_path) == 0)
        status = error_set(&error, STATUS_BAD_INPUT,
                           "--out and --junit name the same file '%.200s': give two", out);
    if (status == STATUS_OK && out)
        status = record_check(out, &error);
    if (status == STATUS_OK && resume)
        status = resume_read(&v.done, out, &error);
    if (status == STATUS_OK && capsules)
        status = capsule_check(capsules, &error);
    if (status == STATUS_OK && junit_path)
        status = junit_create(&v.junit, junit_path, &error);
    if (status != STATUS_OK) {
        command_error(&error);
        goto out;
    }
    if (!json && arguments.seed != 1)
        printf("seed %llu\n", (unsigned long long)arguments.seed);
    record_context_init(&v.record, &list, NULL, NULL);
    list.skip = resume ? skip : NULL;
    status = run_list_walk(&list, NULL, visit, &v, &error);
    if (v.status != STATUS_OK)
        status = v.status;
    if (!json && v.resumed > 0)
        printf("%lld of an earlier run\n", (long long)v.resumed);
    if (!json)
        tally_print(&v.tally);
    if (status != STATUS_OK)
        command_error(&error);
    if (v.junit) {
        const enum status written = junit_write(v.junit, &error);
        if (written != STATUS_OK)
            command_error(&error);
        status = status == STATUS_OK ? written : status;
    }
out:
    junit_free(v.junit);
    resume_release(&v.done);
    run_list_release(&list);
    return status == STATUS_OK ? tally_status(&v.tally) : (int)status;
}
