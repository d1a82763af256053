/* The runs of a trial that lead to its verdict. */
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/attribution.h"
#include "harness/progress.h"
#include "harness/tensor_hash.h"
#include "harness/trial_session.h"

bool trial_is_good(const struct trial *t)
{
    return t->verdict == VERDICT_PASS || t->verdict == VERDICT_MARGINAL;
}

void trial_set_verdict(struct trial *t, enum verdict verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    t->verdict = verdict;
    vsnprintf(t->reason, sizeof t->reason, format, args);
    va_end(args);
}

void trial_prefix_reason(struct trial *t, const char *what)
{
    char reason[sizeof t->reason];
    snprintf(reason, sizeof reason, "%.160s%.800s", what, t->reason);
    memcpy(t->reason, reason, sizeof reason);
}

enum status session_compare(struct session *s, int which, int64_t step, struct error *error)
{
    struct trial *t = s->trial;
    const struct arena *arena = s->arena;
    const struct problem *p = &arena->problem;
    const struct params params = arena_params(arena);
    struct comparator *comparator;
    enum status status = comparator_create(&comparator, p, &params, t->cls, &s->options->tolerance,
                                           tensor_max_magnitude(arena->x, problem_input_count(p)),
                                           arena_poison[which], error);
    struct progress progress;
    progress_begin(&progress, t->implementation, "images", step > 1 ? 0 : p->batch);
    for (int64_t n = 0; n < p->batch && status == STATUS_OK;) {
        const int64_t left = p->batch - n, count = step > 1 ? 1 : left < 8 ? left : 8;
        status = comparator_images(comparator, n, count, arena->x + n * problem_input_image(p),
                                   arena->y + n * problem_output_image(p), error);
        progress_step(&progress, count);
        n += step > 1 ? step : count;
    }
    progress_end(&progress);
    if (status == STATUS_OK) {
        comparator_report(comparator, &t->report);
        trial_explain(t);
    }
    comparator_free(comparator);
    return status;
}

bool session_look_around(struct session *s)
{
    struct trial *t = s->trial;
    struct error error;
    if (s->foreign) {
        if (!worker_freeze(s->worker)) {
            trial_set_verdict(t, VERDICT_CRASHED, "its process ended right after it had answered");
            return false;
        }
        const int strays = worker_kill_strays(s->worker, 0.5);
        if (strays > 0) {
            trial_set_verdict(t, VERDICT_FAIL, "left %d process%s running behind it, now killed",
                              strays, strays > 1 ? "es" : "");
            return false;
        }
    }
    if (arena_check_inputs(s->arena, &s->inputs, &error) != STATUS_OK) {
        t->inputs_damaged = true;
        trial_set_verdict(t, VERDICT_FAIL, "%s", error.message);
    } else if (arena_check_guards(s->arena, &error) != STATUS_OK) {
        arena_fill_guards(s->arena);
        trial_set_verdict(t, VERDICT_FAIL, "%s", error.message);
    } else {
        return true;
    }
    return false;
}

void session_thaw(struct session *s)
{
    if (s->foreign)
        worker_thaw(s->worker);
}

/* One run on what the arena holds; false where it did not end well (the verdict is set). The worker
 * stays frozen. */
static bool run_once(struct session *s, int which, double *seconds)
{
    struct worker_answer answer;
    arena_poison_output(s->arena, which);
    worker_run(s->worker, s->options->timeout_s, &answer);
    trial_take_outcome(s->trial, &answer);
    if (seconds)
        *seconds = answer.seconds;
    return answer.outcome == WORKER_DONE && session_look_around(s);
}

/* Where elements were not written: are they, if one waits? */
static void look_for_late_writes(struct session *s, int which)
{
    const int64_t before = arena_count_poison(s->arena, which);
    if (!s->foreign || before == 0)
        return;
    worker_thaw(s->worker);
    const struct timespec wait = {.tv_nsec = 400000000};
    nanosleep(&wait, NULL);
    const int64_t later = arena_count_poison(s->arena, which);
    char what[160];
    if (later < before) {
        snprintf(what, sizeof what,
                 "returned before its work was done, %lld elements were written later: ",
                 (long long)(before - later));
        trial_prefix_reason(s->trial, what);
    }
}

static void hash_images(const struct arena *arena, uint64_t *hashes)
{
    const int64_t image = problem_output_image(&arena->problem), batch = arena->problem.batch;
    /* NOTE: one team for all images; threads that meet after each wait for one another. */
#pragma omp parallel for schedule(static) if (batch >= omp_get_max_threads())
    for (int64_t n = 0; n < batch; n++)
        hashes[n] = tensor_hash(arena->y + n * image, image);
}

static int64_t count_differing(const struct arena *arena, const uint64_t *a, const uint64_t *b)
{
    int64_t count = 0;
    for (int64_t n = 0; n < arena->problem.batch; n++)
        count += a[n] != b[n];
    return count;
}

/* Two runs differ, and began with different patterns in y: do they differ because of that? Runs
 * each pattern again, so often that a kernel that flips between two results by chance is accused
 * once in 2^12 times. */
static bool depends_on_output(struct session *s, const uint64_t *with_first,
                              const uint64_t *with_second, uint64_t *scratch)
{
    const uint64_t *const known[ARENA_POISONS] = {with_first, with_second};
    for (int i = 0; i < 12; i++) {
        const int which = i % ARENA_POISONS;
        session_thaw(s);
        if (!run_once(s, which, NULL))
            return false;
        hash_images(s->arena, scratch);
        if (count_differing(s->arena, scratch, known[which]) > 0)
            return false;
    }
    return true;
}

/* Runs on the same input again; the outputs' bits must not change. */
static enum status run_again(struct session *s, const uint64_t *first, uint64_t *now,
                             uint64_t *scratch, struct error *error)
{
    struct trial *t = s->trial;
    for (int r = 1; r < s->options->repeat && trial_is_good(t); r++) {
        const int which = r % ARENA_POISONS;
        const struct comparison_report report = t->report;
        const enum verdict verdict = t->verdict;
        char reason[sizeof t->reason], what[96];
        memcpy(reason, t->reason, sizeof reason);
        session_thaw(s);
        if (!run_once(s, which, NULL))
            return STATUS_OK;
        t->repeats = r + 1;
        hash_images(s->arena, now);
        const int64_t differing = count_differing(s->arena, first, now);
        if (differing == 0)
            continue;
        if (differing > t->differing_images)
            t->differing_images = differing;
        const enum status status = session_compare(s, which, 1, error);
        if (status != STATUS_OK)
            return status;
        if (!trial_is_good(t)) {
            snprintf(what, sizeof what, "run %d of the same input went wrong: ", r + 1);
            trial_prefix_reason(t, what);
            return STATUS_OK;
        }
        t->report = report;
        t->verdict = verdict;
        memcpy(t->reason, reason, sizeof reason);
        if (which == 1 && depends_on_output(s, first, now, scratch))
            trial_set_verdict(
                t, VERDICT_FAIL,
                "reads its output buffer: the output changes with what stood there before");
    }
    return STATUS_OK;
}

/* A run on other data. */
static enum status run_fresh(struct session *s, const uint64_t *first, uint64_t *now,
                             struct error *error)
{
    struct trial *t = s->trial;
    const struct arena_inputs inputs = s->inputs;
    const struct comparison_report report = t->report;
    const enum verdict verdict = t->verdict;
    const int64_t batch = s->arena->problem.batch;
    char reason[sizeof t->reason];
    enum status status = STATUS_OK;
    memcpy(reason, t->reason, sizeof reason);
    session_thaw(s);
    arena_rotate_input(s->arena, 1);
    s->inputs = arena_hash_inputs(s->arena);
    if (run_once(s, 1, NULL)) {
        status = session_compare(s, 1, batch > 2 ? batch - 1 : 1, error);
        if (status == STATUS_OK && !trial_is_good(t)) {
            hash_images(s->arena, now);
            trial_prefix_reason(t,
                                count_differing(s->arena, first, now) == 0 &&
                                        s->inputs.hashes[0] != inputs.hashes[0]
                                    ? "returned the output of an earlier run for other input: "
                                    : "right at first, wrong on other input in the same process: ");
        } else if (status == STATUS_OK) {
            t->report = report;
            t->verdict = verdict;
            memcpy(t->reason, reason, sizeof reason);
        }
    }
    if (!t->inputs_damaged)
        arena_rotate_input(s->arena, -1);
    s->inputs = inputs;
    return status;
}

/* Which of the known faults does the worst image show? */
static enum status name_the_fault(struct session *s, struct error *error)
{
    struct trial *t = s->trial;
    const struct arena *arena = s->arena;
    const struct params params = arena_params(arena);
    struct attribution a;
    if (!t->report.has_worst || t->report.unwritten == t->report.compared)
        return STATUS_OK;
    const int64_t n = t->report.worst.n;
    const enum status status = attribute(&arena->problem, &params, arena->x, n,
                                         arena->y + n * problem_output_image(&arena->problem),
                                         ATTRIBUTION_SECONDS, &a, error);
    if (status == STATUS_OK)
        attribution_describe(&a, t->looks_like, sizeof t->looks_like);
    return status;
}

enum status session_verify(struct session *s, struct error *error)
{
    struct trial *t = s->trial;
    if (!run_once(s, 0, &t->seconds))
        return STATUS_OK;
    enum status status = session_compare(s, 0, 1, error);
    if (status != STATUS_OK)
        return status;
    if (!trial_is_good(t)) {
        status = name_the_fault(s, error);
        look_for_late_writes(s, 0);
    }
    if (status != STATUS_OK)
        return status;
    if (!trial_is_good(t) || s->options->repeat < 2 || s->arena->problem.batch == 0)
        return STATUS_OK;
    t->repeats = 1;
    const size_t batch = (size_t)s->arena->problem.batch;
    uint64_t *hashes = malloc(3 * batch * sizeof *hashes);
    if (!hashes)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the images' hashes");
    hash_images(s->arena, hashes);
    status = run_again(s, hashes, hashes + batch, hashes + 2 * batch, error);
    if (status == STATUS_OK && trial_is_good(t))
        status = run_fresh(s, hashes, hashes + batch, error);
    free(hashes);
    return status;
}
