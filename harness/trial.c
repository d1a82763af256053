#include "harness/trial.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/attribution.h"
#include "harness/clock.h"
#include "harness/progress.h"
#include "harness/statistics.h"
#include "harness/tensor_hash.h"

#define POOL_SLOTS 64
/* Spent on what a failed output looks like. */
#define FAULT_SECONDS 10.0

struct trial_pool {
    struct {
        char name[IMPLEMENTATION_NAME_SIZE];
        struct run_options options;
        struct worker *worker;
    } slots[POOL_SLOTS];
};

enum status trial_pool_create(struct trial_pool **pool, struct error *error)
{
    *pool = calloc(1, sizeof **pool);
    return *pool ? STATUS_OK : error_set(error, STATUS_ENVIRONMENT, "out of memory");
}

void trial_pool_free(struct trial_pool *pool)
{
    for (int i = 0; pool && i < POOL_SLOTS; i++)
        worker_free(pool->slots[i].worker);
    free(pool);
}

/* The slot of this implementation: with its worker, or empty; NULL when all are taken. */
static struct worker **slot_for(struct trial_pool *pool, const char *name,
                                const struct run_options *options)
{
    for (int i = 0; i < POOL_SLOTS; i++) {
        const bool is_free = pool->slots[i].name[0] == 0;
        if (is_free) {
            snprintf(pool->slots[i].name, sizeof pool->slots[i].name, "%s", name);
            pool->slots[i].options = *options;
        }
        if (is_free || (strcmp(pool->slots[i].name, name) == 0 &&
                        memcmp(&pool->slots[i].options, options, sizeof *options) == 0))
            return &pool->slots[i].worker;
    }
    return NULL;
}

static void take_outcome(struct trial *t, const struct worker_answer *answer)
{
    switch (answer->outcome) {
    case WORKER_DONE:
        return;
    case WORKER_UNSUPPORTED:
        t->verdict = VERDICT_SKIPPED;
        break;
    case WORKER_TIMEOUT:
        t->verdict = VERDICT_TIMEOUT;
        break;
    case WORKER_FAILED:
        t->verdict = answer->status == STATUS_FAILED ? VERDICT_FAIL : VERDICT_CRASHED;
        break;
    case WORKER_CRASHED:
    case WORKER_MEMORY:
        t->verdict = VERDICT_CRASHED;
        break;
    }
    snprintf(t->reason, sizeof t->reason, "%s", answer->message);
}

void trial_explain(struct trial *t)
{
    const struct comparison_report *r = &t->report;
    t->compared = true;
    t->verdict = r->verdict;
    t->reason[0] = 0;
    if (r->verdict == VERDICT_PASS)
        return;
    const struct element *e = &r->worst;
    char claim[96] = "";
    t->claim_broken = r->verdict == VERDICT_FAIL && r->has_narrowest && r->narrowest > t->cls;
    if (t->claim_broken)
        snprintf(claim, sizeof claim,
                 "claims %s, computes like %s: ", arithmetic_class_get(t->cls)->name,
                 arithmetic_class_get(r->narrowest)->name);
    snprintf(
        t->reason, sizeof t->reason,
        "%s%s; worst at (n %lld, c %lld, h %lld, w %lld): expected %.9g, got %.9g, bound %.3g%s",
        claim, r->where, (long long)e->n, (long long)e->c, (long long)e->h, (long long)e->w,
        e->expected, e->got, e->typical, r->unwritten > 0 ? "; unwritten elements among them" : "");
}

/* One trial under way. */
struct session {
    struct trial *trial;
    const struct trial_options *options;
    struct arena *arena;
    struct worker *worker;
    struct arena_inputs inputs; /* as they must be after every run */
    bool foreign;
};

static bool is_good(const struct trial *t)
{
    return t->verdict == VERDICT_PASS || t->verdict == VERDICT_MARGINAL;
}

ASSAY_PRINTF(3, 4)
static void set_verdict(struct trial *t, enum verdict verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    t->verdict = verdict;
    vsnprintf(t->reason, sizeof t->reason, format, args);
    va_end(args);
}

/* Puts `what` before the reason. */
static void prefix_reason(struct trial *t, const char *what)
{
    char reason[sizeof t->reason];
    snprintf(reason, sizeof reason, "%.160s%.800s", what, t->reason);
    memcpy(t->reason, reason, sizeof reason);
}

/* Images [first, first + step, ...) of the arena's y against the oracle. */
static enum status compare(struct session *s, int which, int64_t step, struct error *error)
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

/* Everything that can be wrong after a run but the values. The worker is frozen where it is
 * foreign; false: the verdict is set. */
static bool look_around(struct session *s)
{
    struct trial *t = s->trial;
    struct error error;
    if (s->foreign) {
        if (!worker_freeze(s->worker)) {
            set_verdict(t, VERDICT_CRASHED, "its process ended right after it had answered");
            return false;
        }
        const int strays = worker_kill_strays(s->worker, 0.5);
        if (strays > 0) {
            set_verdict(t, VERDICT_FAIL, "left %d process%s running behind it, now killed", strays,
                        strays > 1 ? "es" : "");
            return false;
        }
    }
    if (arena_check_inputs(s->arena, &s->inputs, &error) != STATUS_OK) {
        t->inputs_damaged = true;
        set_verdict(t, VERDICT_FAIL, "%s", error.message);
    } else if (arena_check_guards(s->arena, &error) != STATUS_OK) {
        arena_fill_guards(s->arena);
        set_verdict(t, VERDICT_FAIL, "%s", error.message);
    } else {
        return true;
    }
    return false;
}

static void thaw(struct session *s)
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
    take_outcome(s->trial, &answer);
    if (seconds)
        *seconds = answer.seconds;
    return answer.outcome == WORKER_DONE && look_around(s);
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
        prefix_reason(s->trial, what);
    }
}

static void hash_images(const struct arena *arena, uint64_t *hashes)
{
    const int64_t image = problem_output_image(&arena->problem);
    for (int64_t n = 0; n < arena->problem.batch; n++)
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
 * each pattern once more. */
static bool depends_on_output(struct session *s, const uint64_t *with_first,
                              const uint64_t *with_second, uint64_t *scratch)
{
    const uint64_t *const known[ARENA_POISONS] = {with_first, with_second};
    for (int which = 0; which < ARENA_POISONS; which++) {
        thaw(s);
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
    for (int r = 1; r < s->options->repeat && is_good(t); r++) {
        const int which = r % ARENA_POISONS;
        const struct comparison_report report = t->report;
        const enum verdict verdict = t->verdict;
        char reason[sizeof t->reason], what[96];
        memcpy(reason, t->reason, sizeof reason);
        thaw(s);
        if (!run_once(s, which, NULL))
            return STATUS_OK;
        t->repeats = r + 1;
        hash_images(s->arena, now);
        const int64_t differing = count_differing(s->arena, first, now);
        if (differing == 0)
            continue;
        if (differing > t->differing_images)
            t->differing_images = differing;
        const enum status status = compare(s, which, 1, error);
        if (status != STATUS_OK)
            return status;
        if (!is_good(t)) {
            snprintf(what, sizeof what, "run %d of the same input went wrong: ", r + 1);
            prefix_reason(t, what);
            return STATUS_OK;
        }
        t->report = report;
        t->verdict = verdict;
        memcpy(t->reason, reason, sizeof reason);
        if (which == 1 && depends_on_output(s, first, now, scratch))
            set_verdict(t, VERDICT_FAIL,
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
    thaw(s);
    arena_rotate_input(s->arena, 1);
    s->inputs = arena_hash_inputs(s->arena);
    if (run_once(s, 1, NULL)) {
        status = compare(s, 1, batch > 2 ? batch - 1 : 1, error);
        hash_images(s->arena, now);
        if (status == STATUS_OK && !is_good(t)) {
            prefix_reason(t, count_differing(s->arena, first, now) == 0 &&
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
    const enum status status =
        attribute(&arena->problem, &params, arena->x, n,
                  arena->y + n * problem_output_image(&arena->problem), FAULT_SECONDS, &a, error);
    if (status == STATUS_OK && a.mutant)
        snprintf(t->looks_like, sizeof t->looks_like, "%s (%.4g %% of the error explained)",
                 a.mutant->summary, 100.0 * a.explained);
    return status;
}

/* All runs that lead to a verdict. */
static enum status verify(struct session *s, struct error *error)
{
    struct trial *t = s->trial;
    if (!run_once(s, 0, &t->seconds))
        return STATUS_OK;
    enum status status = compare(s, 0, 1, error);
    if (status != STATUS_OK)
        return status;
    if (!is_good(t)) {
        status = name_the_fault(s, error);
        look_for_late_writes(s, 0);
    }
    if (status != STATUS_OK)
        return status;
    if (!is_good(t) || s->options->repeat < 2 || s->arena->problem.batch == 0)
        return STATUS_OK;
    t->repeats = 1;
    const size_t batch = (size_t)s->arena->problem.batch;
    uint64_t *hashes = malloc(3 * batch * sizeof *hashes);
    if (!hashes)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the images' hashes");
    hash_images(s->arena, hashes);
    status = run_again(s, hashes, hashes + batch, hashes + 2 * batch, error);
    if (status == STATUS_OK && is_good(t))
        status = run_fresh(s, hashes, hashes + batch, error);
    free(hashes);
    return status;
}

/* Times runs by this process's clock, so that nothing in the worker can shorten them, each on x
 * rotated by one more element. */
static void measure_from_outside(struct session *s, const struct measurement_plan *plan,
                                 struct worker_answer *answer)
{
    struct measurement *m = &s->trial->measurement;
    *m = *s->arena->measurement;
    m->count = 0;
    m->rotation = 0;
    arena_poison_output(s->arena, 1);
    worker_run(s->worker, s->options->timeout_s, answer); /* warms up */
    const double start = clock_seconds();
    while (answer->outcome == WORKER_DONE &&
           (m->rotation == 0 ||
            (!plan->profile &&
             !measurement_complete(plan, m->samples_s, m->count, clock_seconds() - start)))) {
        arena_rotate_input(s->arena, 1);
        m->rotation++;
        arena_poison_output(s->arena, 1);
        const double before = clock_seconds();
        worker_run(s->worker, s->options->timeout_s, answer);
        if (!plan->profile)
            m->samples_s[m->count++] = clock_seconds() - before;
    }
}

/* A median that no hardware reaches: a quarter under the floor of the device, where all bytes have
 * to move, or twice the rate of this CPU's multiplication. */
static void check_floor(struct trial *t, const struct problem *p, double ceiling_flops_s)
{
    const struct measurement *m = &t->measurement;
    if (m->count == 0)
        return;
    const double median = median_of(m->samples_s, m->count, 0.95).median;
    const bool in_cache = strcmp(m->bound_by, "bytes") == 0 && problem_bytes(p) < 512e6;
    double floor = m->floor_s > 0.0 && !in_cache ? 0.75 * m->floor_s : 0.0;
    if (!m->device[0] && ceiling_flops_s > 0.0)
        floor = problem_flops(p) / (2.0 * ceiling_flops_s);
    if (median < floor)
        set_verdict(t, VERDICT_FAIL,
                    "a median of %.4g ms is below the physical floor of %.4g ms: the work was not "
                    "done in the timed runs",
                    median * 1e3, floor * 1e3);
}

enum status trial_time(struct worker *worker, const struct trial_options *options,
                       const struct measurement_plan *plan, bool verify, struct arena *arena,
                       struct trial *t, struct error *error)
{
    struct session s = {.trial = t,
                        .options = options,
                        .arena = arena,
                        .worker = worker,
                        .inputs = arena_hash_inputs(arena),
                        .foreign = t->foreign};
    const struct arena_inputs before = s.inputs;
    struct worker_answer answer;
    t->measured = false;
    thaw(&s);
    if (t->measures) {
        arena->measurement->rotation = 0;
        if (verify)
            arena_poison_output(arena, 1);
        worker_measure(worker, plan, options->timeout_s, &answer);
        t->measurement = *arena->measurement;
        if (answer.outcome == WORKER_DONE)
            arena_rotate_input(arena, t->measurement.rotation);
        else
            t->measurement.rotation = 0;
    } else {
        measure_from_outside(&s, plan, &answer);
    }
    const int64_t rotation = t->measurement.rotation;
    enum status status = STATUS_OK;
    take_outcome(t, &answer);
    if (answer.outcome == WORKER_DONE) {
        s.inputs = arena_hash_inputs(arena);
        if (look_around(&s) && verify)
            status = compare(&s, 1, 1, error);
        if (status == STATUS_OK && is_good(t))
            check_floor(t, &arena->problem, options->ceiling_flops_s);
        t->measured = status == STATUS_OK && is_good(t);
    }
    arena_rotate_input(arena, -rotation);
    struct error changed;
    if (arena_check_inputs(arena, &before, &changed) != STATUS_OK) {
        t->inputs_damaged = true;
        t->measured = false;
        if (is_good(t))
            set_verdict(t, VERDICT_FAIL, "%s", changed.message);
    }
    return status;
}

enum status trial_begin(struct trial_pool *pool, const char *name, const char *binary,
                        const struct trial_options *given, struct arena *arena, struct trial *t,
                        struct worker **worker, bool *own, struct error *error)
{
    struct implementation implementation;
    struct trial_options options = *given;
    memset(t, 0, sizeof *t);
    *worker = NULL;
    *own = true;
    snprintf(t->implementation, sizeof t->implementation, "%s", name);
    t->binary = binary;
    t->arena = arena;
    enum status status = implementation_resolve(name, &implementation, error);
    if (status != STATUS_OK)
        return status;
    t->foreign = implementation.foreign;
    t->cls = implementation.foreign && options.class_given ? options.run.cls : implementation.cls;
    if (implementation.slow)
        options.repeat = 1;

    /* Rows of the table are asked here, so that no process is started only to say no. */
    if (!implementation.foreign &&
        !implementation.supports(&implementation, &arena->problem, &options.run, t->reason,
                                 sizeof t->reason)) {
        t->verdict = VERDICT_SKIPPED;
        return STATUS_OK;
    }

    struct worker *mine = NULL, **slot = NULL;
    if (pool && implementation.reuse_process && !binary)
        slot = slot_for(pool, name, &options.run);
    *own = slot == NULL;
    if (!slot)
        slot = &mine;
    if (!worker_alive(*slot)) {
        worker_free(*slot);
        *slot = NULL;
        status = worker_create(slot, binary, name, &options.run, options.memory_limit, error);
        if (status != STATUS_OK)
            return status;
    }

    struct session s = {.trial = t,
                        .options = &options,
                        .arena = arena,
                        .worker = *slot,
                        .inputs = arena_hash_inputs(arena),
                        .foreign = implementation.foreign};
    struct worker_answer answer;
    arena_poison_output(arena, 0);
    worker_prepare(*slot, arena, options.timeout_s, &answer);
    take_outcome(t, &answer);
    if (answer.outcome == WORKER_DONE) {
        t->measures = answer.measures;
        if (answer.class_declared && !options.class_given && answer.cls < CLASS_COUNT)
            t->cls = answer.cls;
        status = verify(&s, error);
        t->measurement = *arena->measurement;
    }
    if (status == STATUS_OK && t->compared && is_good(t)) {
        *worker = *slot;
    } else if (*own || t->verdict != VERDICT_SKIPPED) {
        /* A device that has failed stays failed for its process. */
        worker_free(*slot);
        *slot = NULL;
    }
    return status;
}

enum status trial_run(struct trial_pool *pool, const char *name,
                      const struct trial_options *options, const struct measurement_plan *plan,
                      struct arena *arena, struct trial *t, struct error *error)
{
    struct worker *worker;
    bool own;
    enum status status = trial_begin(pool, name, NULL, options, arena, t, &worker, &own, error);
    if (status == STATUS_OK && worker && plan)
        status = trial_time(worker, options, plan, true, arena, t, error);
    if (own)
        worker_free(worker);
    return status;
}
