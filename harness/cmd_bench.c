/* assay bench: verify, then time, then verify what was timed. */
#include <stdio.h>
#include <string.h>

#include "harness/command.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/run_list.h"
#include "harness/statistics.h"
#include "harness/tally.h"
#include "ref/ceiling.h"

struct bench_context {
    struct record_context record;
    struct cpu_ceilings ceilings;
    const char *path; /* records are appended to it; NULL: none */
    bool json;
    struct tally tally;
    struct error *error;
    enum status status;
};

static void print_times(const struct case_source *source, const struct trial *t)
{
    const struct measurement *m = &t->measurement;
    tally_print_verdict(t, source->name);
    if (!t->measured || m->count == 0) {
        printf("\n    %s\n", t->verdict == VERDICT_PASS ? "run once, not timed" : t->reason);
        return;
    }
    const struct median median = median_of(m->samples_s, m->count, 0.95);
    const double flops = problem_flops(&source->problem), bytes = problem_bytes(&source->problem);
    printf("  %10.4f ms (%.4f to %.4f, %lld samples)  %8.1f GFLOP/s  %7.1f GB/s",
           median.median * 1e3, median.low * 1e3, median.high * 1e3, (long long)m->count,
           flops / median.median * 1e-9, bytes / median.median * 1e-9);
    if (m->floor_s > 0.0)
        printf("  %.2f x floor (%s)", median.median / m->floor_s, m->bound_by);
    else if (m->ceiling_gflops > 0.0)
        printf("  %.0f %% of the ceiling",
               100.0 * flops / median.median * 1e-9 / m->ceiling_gflops);
    printf("\n");
    if (m->conv_s > 0.0)
        printf("    convolution %.4f ms (%.0f %% of the ceiling), epilogue %.4f ms, %d threads\n",
               m->conv_s * 1e3, 100.0 * flops / m->conv_s * 1e-9 / m->ceiling_gflops,
               m->epilogue_s * 1e3, m->threads);
    if (m->note[0])
        printf("    %s\n", m->note);
    if (m->throttle[0])
        printf("    throttled: %s\n", m->throttle);
}

static bool visit(void *context, const struct case_source *source, const struct trial *given)
{
    struct bench_context *b = context;
    struct trial t = *given;
    tally_add(&b->tally, &t);
    /* A CPU row is held against the CPU's ceiling; a GPU row brings its own. */
    if (!t.measurement.device[0] && t.measured) {
        t.measurement.ceiling_gflops =
            t.cls == CLASS_FP64 ? b->ceilings.dgemm_gflops : b->ceilings.sgemm_gflops;
        t.measurement.ceiling_copy_gbytes_per_s = b->ceilings.copy_gbytes_per_s;
        t.measurement.ceiling_write_gbytes_per_s = b->ceilings.write_gbytes_per_s;
    }
    if (!b->json && (t.verdict != VERDICT_SKIPPED || b->record.list->arguments.implementations)) {
        print_times(source, &t);
        fflush(stdout);
    }
    if (!b->json && !b->path)
        return true;
    json_t *record = record_bench(&b->record, source, &t);
    if (b->json)
        record_print(record);
    if (b->path && t.verdict != VERDICT_SKIPPED)
        b->status = record_append(b->path, record, b->error);
    json_decref(record);
    return b->status == STATUS_OK;
}

int cmd_bench(int argc, char **argv)
{
    struct run_arguments arguments = run_arguments_default();
    bool json = false;
    int64_t samples = 0;
    double budget = 10.0;
    const char *path = NULL, *commit_time = NULL;
    struct measurement_plan plan = {.min_samples = 10, .half_width = 0.005};
    const struct option options[] = {
        RUN_OPTIONS(arguments),
        {"samples", OPTION_INTEGER, &samples, "N", "exactly N timed runs", 1, MEASUREMENT_SAMPLES},
        {"budget", OPTION_REAL, &budget, "S",
         "stop after S seconds and 10 runs at least (default 10)", 0.0, 1e6},
        {"profile", OPTION_FLAG, &plan.profile, NULL, "run once, untimed, for a profiler", 0, 0},
        {"record", OPTION_STRING, &path, "FILE", "append a record for each to FILE (.jsonl)", 0, 0},
        {"commit", OPTION_STRING, &arguments.commit, "ID",
         "the commit that is measured (default: ASSAY_COMMIT, or the built one)", 0, 0},
        {"commit-time", OPTION_STRING, &commit_time, "TIME",
         "its time, ISO 8601 (default: ASSAY_COMMIT_TIME, or git's)", 0, 0},
        {"json", OPTION_FLAG, &json, NULL, "one JSON object a line", 0, 0},
    };
    const struct option_set set = {
        "bench", "[options] CASE...",
        "Verifies each implementation on each case, times those that pass, and verifies the "
        "output\n"
        "of the timed runs. Timing stops when the median's 95 % confidence interval is within\n"
        "0.5 % on either side, or when the budget is spent. Data: the conditioned fill unless\n"
        "--fill kernelbench.",
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
    plan.samples = samples;
    plan.budget_s = budget;

    struct bench_context b = {.json = json, .path = path, .error = &error};
    record_context_init(&b.record, &list, arguments.commit, commit_time);
    bool any_cpu = false;
    for (size_t i = 0; i < list.implementation_count; i++)
        any_cpu |= strncmp(list.implementations[i], "gpu-", 4) != 0 &&
                   strncmp(list.implementations[i], "cudnn-", 6) != 0;
    if (any_cpu)
        cpu_ceilings_measure((int)arguments.threads, &b.ceilings);
    if (!json) {
        printf("%s, commit %s\n", b.record.machine.id, b.record.provenance.commit);
        if (any_cpu)
            printf("ceilings, %lld threads: sgemm %.1f GFLOP/s, dgemm %.1f GFLOP/s, write %.1f "
                   "GB/s, copy %.1f GB/s\n",
                   (long long)arguments.threads, b.ceilings.sgemm_gflops, b.ceilings.dgemm_gflops,
                   b.ceilings.write_gbytes_per_s, b.ceilings.copy_gbytes_per_s);
        fflush(stdout);
    }
    status = run_list_walk(&list, &plan, visit, &b, &error);
    run_list_release(&list);
    if (!json)
        tally_print(&b.tally);
    if (status == STATUS_OK)
        status = b.status;
    if (status != STATUS_OK)
        return command_error(&error);
    return tally_status(&b.tally);
}
