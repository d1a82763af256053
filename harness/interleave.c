#include "harness/interleave.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/clock.h"
#include "harness/processors.h"
#include "harness/statistics.h"

/* A round's share for one contender: this long, and this many samples. One sample is no median;
 * more than a few tens make rounds so long that the machine changes within them. */
#define ROUND_SECONDS 0.01
#define ROUND_LEAST 3
#define ROUND_MOST 25

/* Rounds that one process lives. */
#define LIFE_ROUNDS 3

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void shuffle(size_t *order, size_t n, uint64_t *state)
{
    for (size_t i = n; i > 1; i--) {
        const size_t k = (size_t)(next_random(state) % i), kept = order[i - 1];
        order[i - 1] = order[k];
        order[k] = kept;
    }
}

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* Samples of each round, from the time of one run. */
static int64_t samples_for(const struct measurement_plan *plan, int64_t rounds, double run_s)
{
    const int64_t most =
        clamp(MEASUREMENT_SAMPLES / (ROUNDS_FACTOR * rounds), 1, MEASUREMENT_SAMPLES);
    if (plan->samples > 0)
        return clamp((plan->samples + rounds - 1) / rounds, 1, most);
    const double share = plan->budget_s / (double)rounds;
    if (run_s <= 0.0)
        return clamp(ROUND_LEAST, 1, most);
    if (ROUND_LEAST * run_s > share)
        return 1;
    return clamp((int64_t)(ROUND_SECONDS / run_s), ROUND_LEAST, clamp(ROUND_MOST, 1, most));
}

/* Clocks and throttle reasons are those of all rounds. */
static void merge_device_state(const struct measurement *before, struct measurement *m)
{
    if (before->rounds == 0)
        return;
    if (before->sm_clock_min_mhz < m->sm_clock_min_mhz)
        m->sm_clock_min_mhz = before->sm_clock_min_mhz;
    if (before->sm_clock_max_mhz > m->sm_clock_max_mhz)
        m->sm_clock_max_mhz = before->sm_clock_max_mhz;
    if (before->throttle[0] && !m->throttle[0])
        memcpy(m->throttle, before->throttle, sizeof m->throttle);
}

/* One turn: its samples are appended to those of the rounds before. */
static enum status take_turn(struct contender *c, const struct trial_options *options, int64_t n,
                             bool verify, struct arena *arena, struct measurement *all,
                             struct error *error)
{
    const struct measurement_plan turn = {.samples = n};
    arena->measurement->count = 0;
    arena->measurement->prepare_s = all->prepare_s;
    arena->measurement->threads = all->threads;
    const enum status status =
        trial_time(c->worker, options, &turn, verify, arena, &c->trial, error);
    if (status != STATUS_OK || !c->trial.measured)
        return status;
    struct measurement *m = &c->trial.measurement;
    const int64_t taken = clamp(m->count, 0, MEASUREMENT_SAMPLES - all->count);
    memcpy(all->samples_s + all->count, m->samples_s, (size_t)taken * sizeof *m->samples_s);
    c->conv_s += m->conv_s * (double)taken;
    c->epilogue_s += m->epilogue_s * (double)taken;
    const int64_t count = all->count + taken, rounds = all->rounds + 1;
    merge_device_state(all, m);
    memcpy(m->samples_s, all->samples_s, (size_t)count * sizeof *m->samples_s);
    m->count = count;
    m->rounds = rounds;
    m->conv_s = c->conv_s / (double)(count ? count : 1);
    m->epilogue_s = c->epilogue_s / (double)(count ? count : 1);
    *all = *m;
    return STATUS_OK;
}

/* A worker that is the caller's own is ended as soon as it is of no more use. */
static void dismiss(struct contender *c)
{
    if (c->own)
        worker_free(c->worker);
    c->worker = NULL;
}

static bool may_be_replaced(const struct contender *c)
{
    struct implementation i;
    struct error ignored;
    return c->own && implementation_resolve(c->implementation, &i, &ignored) == STATUS_OK &&
           !i.reuse_process;
}

/* The same implementation in a new process, prepared and warm, on processors that `place` chooses.
 */
static enum status replace(struct contender *c, const struct trial_options *options,
                           const struct processors *processors, uint64_t place, struct arena *arena,
                           struct error *error)
{
    struct worker_answer answer;
    const struct measurement_plan warm = {.samples = 1};
    worker_free(c->worker);
    c->worker = NULL;
    processors_narrow(processors, options->run.threads, place);
    enum status status = worker_create(&c->worker, c->binary, c->implementation, &options->run,
                                       options->memory_limit, error);
    processors_restore(processors);
    if (status != STATUS_OK)
        return status;
    worker_prepare(c->worker, arena, options->timeout_s, &answer);
    if (answer.outcome == WORKER_DONE) {
        const struct measurement kept = c->trial.measurement;
        status = trial_time(c->worker, options, &warm, false, arena, &c->trial, error);
        c->trial.measurement = kept;
    } else { /* it was sound before: say so and go on without it */
        c->trial.verdict = VERDICT_CRASHED;
        c->trial.measured = false;
        snprintf(c->trial.reason, sizeof c->trial.reason, "in a new process: %.900s",
                 answer.message);
    }
    if (!c->trial.measured)
        dismiss(c);
    return status;
}

static enum status run_rounds(const struct trial_options *options,
                              const struct measurement_plan *plan, const struct interleaving *how,
                              struct arena *arena, struct contender *c, size_t count,
                              struct measurement *all, size_t *order, struct error *error)
{
    const int64_t rounds = how->rounds;
    const struct processors processors = processors_allowed();
    uint64_t random = 1, place = 0;
    size_t ready = 0;
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
        all[i] = c[i].trial.measurement;
        all[i].count = 0;
        ready += c[i].worker != NULL;
    }
    /* A throw-away turn says how long a run takes. */
    enum status status = STATUS_OK;
    int64_t fewest = MEASUREMENT_SAMPLES;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (!c[i].worker)
            continue;
        struct measurement first = all[i];
        double least = c[i].trial.seconds;
        status = take_turn(&c[i], options, ROUND_LEAST, false, arena, &first, error);
        if (first.count > 0)
            block_minima(first.samples_s, first.count, 1, &least);
        c[i].samples_each_round = samples_for(plan, rounds, least);
        c[i].conv_s = c[i].epilogue_s = 0.0;
        fewest = c[i].samples_each_round < fewest ? c[i].samples_each_round : fewest;
    }
    /* NOTE: the minimum of more samples is smaller, so those that are compared take the same
     * number. */
    for (size_t i = 0; i < count && how->enough; i++)
        c[i].samples_each_round = fewest;
    const double start = clock_seconds();
    const int64_t most = how->enough ? ROUNDS_FACTOR * rounds : rounds;
    bool last = false;
    for (int64_t r = 0; r < most && status == STATUS_OK && !last; r++) {
        const double spent = clock_seconds() - start;
        const bool look = r + 1 == rounds || r + 1 == 2 * rounds || r + 1 == ROUNDS_FACTOR * rounds;
        last = r + 1 == most || (spent > plan->budget_s * (double)ready &&
                                 r + 1 >= clamp(plan->min_samples, 2, rounds));
        shuffle(order, count, &random);
        const bool born = r % LIFE_ROUNDS == 0 && (r > 0 || how->enough);
        if (born)
            place = next_random(&random);
        for (size_t k = 0; k < count && status == STATUS_OK; k++) {
            struct contender *one = &c[order[k]];
            if (one->worker && one->replaceable && born)
                status = replace(one, options, &processors, place, arena, error);
            if (!one->worker || status != STATUS_OK)
                continue;
            status = take_turn(one, options, one->samples_each_round, last || look, arena,
                               &all[order[k]], error);
            if (!one->trial.measured)
                dismiss(one);
        }
        last |=
            look && status == STATUS_OK && (!how->enough || how->enough(how->context, c, count));
    }
    return status;
}

enum status interleave(const struct trial_options *options, const struct measurement_plan *plan,
                       const struct interleaving *how, struct trial_pool *pool, struct arena *arena,
                       struct contender *contenders, size_t count, struct error *error)
{
    enum status status = STATUS_OK;
    struct measurement *all = calloc(count + 1, sizeof *all);
    size_t *order = calloc(count + 1, sizeof *order);
    if (!all || !order)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the samples");
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct contender *c = &contenders[i];
        status = trial_begin(pool, c->implementation, c->binary, options, arena, &c->trial,
                             &c->worker, &c->own, error);
        if (status == STATUS_OK && c->binary && c->trial.verdict == VERDICT_CRASHED &&
            strstr(c->trial.reason, "before it had answered"))
            snprintf(c->trial.reason, sizeof c->trial.reason,
                     "'%.200s' ended before it had answered: a build that speaks another protocol "
                     "cannot be interleaved; record each by itself and compare",
                     c->binary);
        c->replaceable = status == STATUS_OK && may_be_replaced(c);
    }
    if (status == STATUS_OK)
        status = run_rounds(options, plan, how, arena, contenders, count, all, order, error);
    for (size_t i = 0; i < count; i++) {
        if (status == STATUS_OK && contenders[i].own)
            trial_release(contenders[i].worker, options, arena, &contenders[i].trial);
        dismiss(&contenders[i]);
    }
    free(all);
    free(order);
    return status;
}

enum status interleave_case(const struct run_list *l, const struct measurement_plan *plan,
                            struct trial_pool *pool, const struct case_source *source,
                            struct arena *arena, run_visit visit, void *context, bool *stop,
                            struct error *error)
{
    const size_t sides = l->interleaving.against ? 2 : 1, count = sides * l->implementation_count;
    struct contender *c = calloc(count + 1, sizeof *c);
    if (!c)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    for (size_t i = 0; i < count; i++) {
        c[i].implementation = l->implementations[i / sides];
        c[i].binary = i % sides + 1 < sides ? l->interleaving.against : l->interleaving.binary;
    }
    const enum status status =
        interleave(&l->options, plan, &l->interleaving, pool, arena, c, count, error);
    for (size_t i = 0; i < count && status == STATUS_OK && !*stop; i++)
        *stop = !visit(context, source, &c[i].trial);
    free(c);
    return status;
}

int64_t interleave_round_minima(const struct measurement *m, double *minima)
{
    return m->rounds > 0 ? block_minima(m->samples_s, m->count, m->rounds, minima) : 0;
}
