#include "harness/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/progress.h"

#define POOL_SLOTS 64

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
    snprintf(t->reason, sizeof t->reason,
             "%s; worst at (n %lld, c %lld, h %lld, w %lld): expected %.9g, got %.9g, bound %.3g%s",
             r->where, (long long)e->n, (long long)e->c, (long long)e->h, (long long)e->w,
             e->expected, e->got, e->typical,
             r->unwritten > 0 ? "; unwritten elements among them" : "");
}

/* Compares the arena's y, image by image. */
static enum status compare(struct trial *t, const struct trial_options *options,
                           const struct arena *arena, uint32_t poison, struct error *error)
{
    const struct problem *p = &arena->problem;
    const struct params params = arena_params(arena);
    struct comparator *comparator;
    enum status status =
        comparator_create(&comparator, p, &params, t->cls, &options->tolerance,
                          tensor_max_magnitude(arena->x, problem_input_count(p)), poison, error);
    struct progress progress;
    progress_begin(&progress, t->implementation, "images", p->batch);
    for (int64_t n = 0; n < p->batch && status == STATUS_OK;) {
        const int64_t count = p->batch - n < 8 ? p->batch - n : 8;
        status = comparator_images(comparator, n, count, arena->x + n * problem_input_image(p),
                                   arena->y + n * problem_output_image(p), error);
        progress_step(&progress, count);
        n += count;
    }
    progress_end(&progress);
    if (status == STATUS_OK) {
        comparator_report(comparator, &t->report);
        trial_explain(t);
        if (arena_check_guards(arena, error) != STATUS_OK) {
            t->verdict = VERDICT_FAIL;
            snprintf(t->reason, sizeof t->reason, "%s", error->message);
        }
    }
    comparator_free(comparator);
    return status;
}

static bool may_be_timed(const struct trial *t)
{
    return t->compared && (t->verdict == VERDICT_PASS || t->verdict == VERDICT_MARGINAL);
}

enum status trial_begin(struct trial_pool *pool, const char *name, const char *binary,
                        const struct trial_options *options, struct arena *arena, struct trial *t,
                        struct worker **worker, bool *own, struct error *error)
{
    struct implementation implementation;
    memset(t, 0, sizeof *t);
    *worker = NULL;
    *own = true;
    snprintf(t->implementation, sizeof t->implementation, "%s", name);
    t->binary = binary;
    enum status status = implementation_resolve(name, &implementation, error);
    if (status != STATUS_OK)
        return status;
    t->cls = implementation.foreign && options->class_given ? options->run.cls : implementation.cls;

    /* Rows of the table are asked here, so that no process is started only to say no. */
    if (!implementation.foreign &&
        !implementation.supports(&implementation, &arena->problem, &options->run, t->reason,
                                 sizeof t->reason)) {
        t->verdict = VERDICT_SKIPPED;
        return STATUS_OK;
    }

    struct worker *mine = NULL, **slot = NULL;
    if (pool && implementation.reuse_process && !binary)
        slot = slot_for(pool, name, &options->run);
    *own = slot == NULL;
    if (!slot)
        slot = &mine;
    if (!worker_alive(*slot)) {
        worker_free(*slot);
        *slot = NULL;
        status = worker_create(slot, binary, name, &options->run, error);
        if (status != STATUS_OK)
            return status;
    }

    struct worker_answer answer;
    arena_poison_output(arena, 0);
    worker_prepare(*slot, arena, options->timeout_s, &answer);
    take_outcome(t, &answer);
    if (answer.outcome == WORKER_DONE) {
        worker_run(*slot, options->timeout_s, &answer);
        t->seconds = answer.seconds;
        take_outcome(t, &answer);
        if (answer.outcome == WORKER_DONE)
            status = compare(t, options, arena, arena_poison[0], error);
        t->measurement = *arena->measurement;
    }
    if (status == STATUS_OK && may_be_timed(t))
        *worker = *slot;
    else if (*own)
        worker_free(*slot);
    return status;
}

enum status trial_time(struct worker *worker, const struct trial_options *options,
                       const struct measurement_plan *plan, bool verify, struct arena *arena,
                       struct trial *t, struct error *error)
{
    struct worker_answer answer;
    if (verify)
        arena_poison_output(arena, 1);
    worker_measure(worker, plan, options->timeout_s, &answer);
    take_outcome(t, &answer);
    t->measured = false;
    if (answer.outcome != WORKER_DONE)
        return STATUS_OK;
    t->measurement = *arena->measurement;
    const enum status status =
        verify ? compare(t, options, arena, arena_poison[1], error) : STATUS_OK;
    t->measured = may_be_timed(t);
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
