/* assay bench: verify, then time, then verify what was timed. */
#include <stdio.h>
#include <string.h>

#include "harness/bench_gate.h"
#include "harness/calibrate.h"
#include "harness/command.h"
#include "harness/options.h"
#include "harness/record.h"
#include "harness/run_list.h"
#include "harness/statistics.h"
#include "harness/tally.h"
#include "ref/ceiling.h"

#define LEAST_SAMPLES 10

/* Rounds, each of at least one sample: of several implementations in one table, and of a comparison
 * that is a gate. */
#define ROUNDS_LISTED LEAST_SAMPLES
#define ROUNDS_COMPARED 30

struct bench_context {
    struct record_context record;
    struct bench_gate *gate; /* NULL: nothing is compared */
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
    if (t->binary)
        printf("  (%s)", t->binary);
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
        printf("  %.0f %% of gemm's rate",
               100.0 * flops / median.median * 1e-9 / m->ceiling_gflops);
    printf("\n");
    if (m->conv_s > 0.0) {
        const double conv_s = measurement_stage(m->samples_s, m->count, m->conv_s);
        printf("    convolution %.4f ms (%.0f %% of gemm's rate), epilogue %.4f ms, %d thread%s\n",
               conv_s * 1e3, 100.0 * flops / conv_s * 1e-9 / m->ceiling_gflops,
               measurement_stage(m->samples_s, m->count, m->epilogue_s) * 1e3, m->threads,
               m->threads == 1 ? "" : "s");
    }
    tally_print_repeats(t);
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
    if (!t.measurement.device[0] && t.measurement.threads == 0)
        t.measurement.threads = b->record.list->options.run.threads;
    if (!b->json && (t.verdict != VERDICT_SKIPPED || b->record.list->arguments.implementations))
        print_times(source, &t);
    if (b->gate)
        bench_gate_visit(b->gate, source, &t);
    fflush(stdout);
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

/* What the command line says, beside what verify takes, too. */
struct bench_arguments {
    struct run_arguments run;
    int64_t samples, rounds, pairs;
    double budget, threshold;
    bool json, profile, calibrate;
    const char *path, *commit_time, *against, *binary, *baseline, *known;
};

/* The baseline is timed first in each case, so that the others find it. */
static enum status put_baseline_first(struct run_list *list, const char *baseline,
                                      struct error *error)
{
    for (size_t i = 0; i < list->implementation_count; i++) {
        char *name = list->implementations[i];
        if (strcmp(name, baseline) != 0)
            continue;
        memmove(list->implementations + 1, list->implementations,
                i * sizeof *list->implementations);
        list->implementations[0] = name;
        return STATUS_OK;
    }
    return error_set(error, STATUS_BAD_INPUT,
                     "'--baseline %.60s' is not among the implementations: name it in --impl, too",
                     baseline);
}

/* As far as times are compared: as texts. */
static bool is_time(const char *text)
{
    const char *const pattern = "0000-00-00T00:00:00";
    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != pattern[i])
            return false;
    return true;
}

static enum status check(const struct bench_arguments *a, struct run_list *list,
                         struct error *error)
{
    struct provenance ignored;
    if (a->against && a->baseline)
        return error_set(error, STATUS_BAD_INPUT,
                         "--against and --baseline exclude each other: give one");
    if (a->profile && (a->against || a->baseline || a->calibrate))
        return error_set(error, STATUS_BAD_INPUT, "--profile times nothing: give it alone");
    if (a->calibrate && (a->against || a->baseline))
        return error_set(error, STATUS_BAD_INPUT,
                         "--calibrate compares each with itself: give it without --%s",
                         a->against ? "against" : "baseline");
    if (a->rounds == 1 && (a->against || a->baseline || a->calibrate))
        return error_set(error, STATUS_BAD_INPUT, "a comparison takes more than one round");
    if (a->binary && !a->against)
        return error_set(error, STATUS_BAD_INPUT, "--binary needs --against BINARY");
    if (a->commit_time && *a->commit_time && !is_time(a->commit_time))
        return error_set(error, STATUS_BAD_INPUT,
                         "option '--commit-time' is '%.40s': a time like 2026-11-23T04:05:06Z",
                         a->commit_time);
    enum status status = a->path ? record_check(a->path, error) : STATUS_OK;
    if (status == STATUS_OK && a->against)
        status = provenance_of(a->against, &ignored, error);
    return status == STATUS_OK && a->baseline ? put_baseline_first(list, a->baseline, error)
                                              : status;
}

static bool needs_cpu_ceilings(const struct run_list *list)
{
    for (size_t i = 0; i < list->implementation_count; i++)
        if (strncmp(list->implementations[i], "gpu-", 4) != 0 &&
            strncmp(list->implementations[i], "cudnn-", 6) != 0)
            return true;
    return false;
}

static void print_heading(const struct bench_context *b, int64_t threads)
{
    const struct cpu_ceilings *c = &b->ceilings;
    printf("%s, commit %s%s\n", b->record.machine.id, b->record.provenance.commit,
           b->record.provenance.dirty ? ", changed" : "");
    if (c->sgemm_gflops > 0.0)
        printf("ceilings, %lld thread%s: sgemm %.1f GFLOP/s, dgemm %.1f GFLOP/s, write %.1f GB/s, "
               "copy %.1f GB/s\n",
               (long long)threads, threads == 1 ? "" : "s", c->sgemm_gflops, c->dgemm_gflops,
               c->write_gbytes_per_s, c->copy_gbytes_per_s);
    fflush(stdout);
}

static int bench(const struct bench_arguments *a, struct run_list *list)
{
    struct error error;
    struct bench_gate gate = {.baseline = a->baseline,
                              .against = a->against,
                              .threshold = a->threshold / 100.0,
                              .json = a->json};
    struct bench_context b = {.json = a->json, .path = a->path, .error = &error};
    struct measurement_plan plan = {.samples = a->samples,
                                    .min_samples = LEAST_SAMPLES,
                                    .half_width = 0.005,
                                    .budget_s = a->budget,
                                    .profile = a->profile};
    const bool compares = a->against || a->baseline || a->calibrate;
    record_context_init(&b.record, list, a->run.commit, a->commit_time);
    list->interleaving.against = a->against;
    list->interleaving.binary = a->binary;
    list->interleaving.rounds = a->rounds > 0                    ? a->rounds
                                : compares                       ? ROUNDS_COMPARED
                                : list->implementation_count > 1 ? ROUNDS_LISTED
                                                                 : 1;
    if (a->profile)
        list->interleaving.rounds = 1;
    while (!compares && a->samples > 0 && a->samples % list->interleaving.rounds != 0)
        list->interleaving.rounds--; /* N samples are N samples */
    enum status status = compares ? bench_gate_init(&gate, &b.record, a->known, &error) : STATUS_OK;
    if (status != STATUS_OK)
        goto out;
    if (a->calibrate) {
        status = calibrate(&b.record, &plan, list->interleaving.rounds, a->pairs, &gate.known,
                           a->path, a->json, &error);
        goto out;
    }
    b.gate = compares ? &gate : NULL;
    if (compares) {
        list->interleaving.enough = bench_gate_enough;
        list->interleaving.context = &gate;
    }
    if (run_list_any_opens(list)) { /* else the walk only says why not, and at once */
        if (needs_cpu_ceilings(list))
            cpu_ceilings_measure((int)a->run.threads, &b.ceilings);
        if (!a->json)
            print_heading(&b, a->run.threads);
    }
    status = run_list_walk(list, &plan, visit, &b, &error);
    if (!a->json)
        tally_print(&b.tally);
    if (b.gate)
        bench_gate_finish(b.gate);
    if (status == STATUS_OK)
        status = b.status;
out:
    bench_gate_release(&gate);
    if (status != STATUS_OK)
        return command_error(&error);
    return gate.slower > 0 ? STATUS_FAILED : tally_status(&b.tally);
}

int cmd_bench(int argc, char **argv)
{
    struct bench_arguments a = {.run = run_arguments_default(),
                                .pairs = 40,
                                .budget = 10.0,
                                .threshold = 2.0,
                                .known = "results"};
    const struct option options[] = {
        RUN_OPTIONS(a.run),
        {"samples", OPTION_INTEGER, &a.samples, "N", "N timed runs of each", 1,
         MEASUREMENT_SAMPLES},
        {"budget", OPTION_REAL, &a.budget, "S",
         "stop after S seconds of each and 10 samples or rounds (default 10)", 0.0, 1e6},
        {"rounds", OPTION_INTEGER, &a.rounds, "N",
         "time in turn, N times (default 10; to compare 30, more while undecided)", 1, 1000},
        {"against", OPTION_STRING, &a.against, "BINARY",
         "compare each with itself in another build of this program", 0, 0},
        {"binary", OPTION_STRING, &a.binary, "BINARY",
         "with --against: the build that is compared (default: this one)", 0, 0},
        {"baseline", OPTION_STRING, &a.baseline, "NAME", "compare each with this implementation", 0,
         0},
        {"threshold", OPTION_REAL, &a.threshold, "PCT",
         "compared and SLOWER by more than PCT % fails (default 2)", 0.0, 1e6},
        {"calibrate", OPTION_FLAG, &a.calibrate, NULL,
         "compare each with itself: what this machine's noise is", 0, 0},
        {"pairs", OPTION_INTEGER, &a.pairs, "N", "comparisons of a calibration (default 40)",
         CALIBRATE_PAIRS_LEAST, 100000},
        {"known", OPTION_STRING, &a.known, "PATH",
         "where earlier calibrations lie: a file or folder (default results)", 0, 0},
        {"profile", OPTION_FLAG, &a.profile, NULL, "run once, untimed, for a profiler", 0, 0},
        {"record", OPTION_STRING, &a.path, "FILE", "append a record for each to FILE (.jsonl)", 0,
         0},
        {"commit", OPTION_STRING, &a.run.commit, "ID",
         "the commit that is measured (default: ASSAY_COMMIT, or the built one)", 0, 0},
        {"commit-time", OPTION_STRING, &a.commit_time, "TIME",
         "its time, ISO 8601 (default: ASSAY_COMMIT_TIME, or git's)", 0, 0},
        {"json", OPTION_FLAG, &a.json, NULL, "one JSON object a line", 0, 0},
    };
    const struct option_set set = {
        "bench", "[options] CASE...",
        "Verifies each implementation on each case, times those that pass, and verifies the "
        "output\n"
        "of the timed runs. One implementation is timed until the median's 95 % confidence\n"
        "interval is within 0.5 % on either side, or the budget is spent; several are timed in\n"
        "turn, round by round. Data: the conditioned fill unless --fill kernelbench.\n"
        "Exit status: 1 where one fails, or is compared and SLOWER beyond the threshold.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct run_list list;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK)
        status = run_list_init(&list, &a.run, argv, words, &error);
    if (status != STATUS_OK)
        return command_error(&error);
    status = check(&a, &list, &error);
    const int exit_status = status == STATUS_OK ? bench(&a, &list) : command_error(&error);
    run_list_release(&list);
    return exit_status;
}
