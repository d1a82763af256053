#include "harness/trial.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/clock.h"
#include "harness/statistics.h"
#include "harness/trial_session.h"

#define POOL_SLOTS 64
/* Two 512-bit units of fused multiply-adds at 6 GHz, twice over. */
#define CORE_FLOPS_S (2.0 * 2.0 * 16.0 * 2.0 * 6e9)

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

void trial_take_outcome(struct trial *t, const struct worker_answer *answer)
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
        t->bad_input = answer->status == STATUS_BAD_INPUT;
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
    char claim[96] = "", unwritten[64] = "";
    t->claim_broken = r->verdict == VERDICT_FAIL && r->has_narrowest && r->narrowest > t->cls;
    if (t->claim_broken)
        snprintf(claim, sizeof claim,
                 "claims %s, is consistent with %s: ", arithmetic_class_get(t->cls)->name,
                 arithmetic_class_get(r->narrowest)->name);
    if (r->unwritten > 0)
        snprintf(unwritten, sizeof unwritten, "; unwritten elements among them: %lld",
                 (long long)r->unwritten);
    snprintf(
        t->reason, sizeof t->reason,
        "%s%s; worst at (n %lld, c %lld, h %lld, w %lld): expected %.9g, got %.9g, bound %.3g%s",
        claim, r->where, (long long)e->n, (long long)e->c, (long long)e->h, (long long)e->w,
        e->expected, e->got, e->typical, unwritten);
}

/* What stands in the arena is the worker's to write: nothing of it is taken on trust. */
static void take_measurement(struct trial *t, const struct arena *arena)
{
    struct measurement *m = &t->measurement;
    *m = *arena->measurement;
    m->count = m->count < 0 ? 0 : m->count > MEASUREMENT_SAMPLES ? MEASUREMENT_SAMPLES : m->count;
    for (int64_t i = 0; i < m->count; i++)
        if (!(m->samples_s[i] >= 0.0 && m->samples_s[i] < 1e9))
            m->count = 0;
    char *const texts[] = {m->bound_by, m->device, m->driver, m->throttle, m->note};
    const size_t sizes[] = {sizeof m->bound_by, sizeof m->device, sizeof m->driver,
                            sizeof m->throttle, sizeof m->note};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        texts[i][sizes[i] - 1] = 0;
}

/* Times runs by this process's clock, so that nothing in the worker can shorten them, each on x
 * rotated by one more element. False where one left elements unwritten: it is the last one. */
static bool measure_from_outside(struct session *s, const struct measurement_plan *plan,
                                 struct worker_answer *answer)
{
    struct measurement *m = &s->trial->measurement;
    take_measurement(s->trial, s->arena);
    m->count = 0;
    m->rotation = 0;
    arena_poison_output(s->arena, 1);
    worker_run(s->worker, s->options->timeout_s, answer); /* warms up */
    const double start = clock_seconds();
    bool written = true;
    while (answer->outcome == WORKER_DONE && written &&
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
        written = answer->outcome != WORKER_DONE || !arena_has_poison(s->arena, 1);
    }
    snprintf(m->note, sizeof m->note, "%.*s", (int)sizeof m->note - 1, s->arena->measurement->note);
    return written;
}

/* A median that no hardware reaches: a quarter under the time in which the device moves the bytes,
 * where they do not fit in its cache, or more fp32 arithmetic than any core has units for. */
static void check_floor(struct trial *t, const struct problem *p)
{
    const struct measurement *m = &t->measurement;
    if (m->count == 0)
        return;
    const double median = median_of(m->samples_s, m->count, 0.95).median;
    const bool in_cache = strcmp(m->bound_by, "bytes") == 0 && problem_bytes(p) < 512e6;
    double floor = m->floor_s > 0.0 && !in_cache ? 0.75 * m->floor_s : 0.0;
    if (!m->device[0] && t->cls <= CLASS_FP32)
        floor = problem_flops(p) / (CORE_FLOPS_S * omp_get_num_procs());
    if (median < floor)
        trial_set_verdict(
            t, VERDICT_FAIL,
            "a median of %.4g ms is below the physical floor of %.4g ms: the work was "
            "not done in the timed runs",
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
    struct error changed;
    bool written = true; /* by every timed run that was looked at */
    int64_t turned = 0;  /* elements by which the arena's x is rotated */
    t->measured = false;
    session_thaw(&s);
    /* Others may have had their turn in the same memory. */
    *arena->measurement = (struct measurement){.prepare_s = arena->measurement->prepare_s,
                                               .threads = arena->measurement->threads};
    if (t->measures) {
        if (verify)
            arena_poison_output(arena, 1);
        worker_measure(worker, plan, options->timeout_s, &answer);
        take_measurement(t, arena);
        /* The last sample's data, which is what y is to be compared for. */
        turned = verify && answer.outcome == WORKER_DONE ? t->measurement.rotation : 0;
        if (arena_check_inputs(arena, &before, &changed) == STATUS_OK)
            arena_rotate_input(arena, turned);
        else
            turned = 0;
    } else {
        written = measure_from_outside(&s, plan, &answer);
        turned = t->measurement.rotation;
    }
    enum status status = STATUS_OK;
    trial_take_outcome(t, &answer);
    if (answer.outcome == WORKER_DONE) {
        s.inputs = arena_hash_inputs(arena);
        if (session_look_around(&s) && (verify || !written)) {
            status = session_compare(&s, 1, 1, error);
            if (status == STATUS_OK && !written && trial_is_good(t))
                trial_set_verdict(t, VERDICT_FAIL, "returned before its work was done");
            if (status == STATUS_OK && !trial_is_good(t))
                trial_prefix_reason(t, "right at first, wrong in a timed run: ");
        }
        if (status == STATUS_OK && trial_is_good(t))
            check_floor(t, &arena->problem);
        t->measured = status == STATUS_OK && trial_is_good(t);
    }
    arena_rotate_input(arena, -turned);
    if (arena_check_inputs(arena, &before, &changed) != STATUS_OK) {
        t->inputs_damaged = true;
        t->measured = false;
        if (trial_is_good(t))
            trial_set_verdict(t, VERDICT_FAIL, "%s", changed.message);
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
    t->verdict = VERDICT_CRASHED; /* until something says better */
    t->binary = binary;
    t->arena = arena;
    enum status status = implementation_resolve(name, &implementation, error);
    if (status != STATUS_OK)
        return status;
    t->foreign = implementation.foreign;
    t->cls = options.class_given && (implementation.foreign || implementation.takes_class)
                 ? options.run.cls
                 : implementation.cls;
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
    trial_take_outcome(t, &answer);
    if (answer.outcome == WORKER_DONE) {
        t->measures = answer.measures;
        if (answer.class_declared && !options.class_given && answer.cls < CLASS_COUNT)
            t->cls = answer.cls;
        status = session_verify(&s, error);
        take_measurement(t, arena);
    }
    if (status == STATUS_OK && t->compared && trial_is_good(t)) {
        *worker = *slot;
    } else if (*own || t->verdict != VERDICT_SKIPPED) {
        /* A device that has failed stays failed for its process. */
        worker_free(*slot);
        *slot = NULL;
    }
    return status;
}

void trial_release(struct worker *worker, const struct trial_options *options, struct arena *arena,
                   struct trial *t)
{
    if (!t->foreign || !worker_alive(worker) || !trial_is_good(t))
        return;
    struct session s = {.trial = t,
                        .options = options,
                        .arena = arena,
                        .worker = worker,
                        .inputs = arena_hash_inputs(arena),
                        .foreign = true};
    struct worker_answer answer;
    session_thaw(&s);
    worker_release(worker, options->timeout_s, &answer);
    trial_take_outcome(t, &answer);
    if (answer.outcome != WORKER_DONE || !session_look_around(&s))
        trial_prefix_reason(t, "in release(): ");
    t->measured = t->measured && trial_is_good(t);
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
    if (status == STATUS_OK && own)
        trial_release(worker, options, arena, t);
    if (own)
        worker_free(worker);
    return status;
}
