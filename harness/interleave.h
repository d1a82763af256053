/* Timing implementations in turn: what disturbs the machine disturbs all of them alike.
 *
 * Each implementation stands ready in a process of its own; in each round every one takes a few
 * samples, in an order drawn anew (from a fixed seed), so that none of them always follows the same
 * other. The outputs of the last round, and of each after which enough() is asked, are verified.
 *
 * A process keeps the luck of where its memory came to lie: two of the same code differ by one or
 * two per cent for as long as they live. So processes are replaced every few rounds, but for those
 * whose start is dear (a CUDA context).
 *
 * NOTE: the processors of a machine differ, too, for tenths of a second, where others share their
 * cores or caches: by 17 % for a run of 0.5 ms on two virtual processors, of which the one was slow
 * while the other was not. Processes that use fewer threads than there are processors are therefore
 * all put on the same ones, chosen anew for each life. On processors of their own, each side's
 * rounds are slow in runs, which intervals that take rounds to be independent know nothing of: 3 to
 * 15 % of comparisons of identical code were then SLOWER. */
#ifndef ASSAY_HARNESS_INTERLEAVE_H
#define ASSAY_HARNESS_INTERLEAVE_H

#include "harness/run_list.h"

/* One that takes its turn. */
struct contender {
    const char *implementation;
    const char *binary; /* another build of this program; NULL: this one */
    struct trial trial;
    struct worker *worker;
    bool own;         /* the worker is not the pool's */
    bool replaceable; /* and may be started anew */
    int64_t samples_each_round;
    double conv_s, epilogue_s; /* sums over samples */
};

/* Verifies each contender and times those that pass, in rounds. trial.measurement.rounds says in
 * how many they were: fewer than asked for where the plan's budget (seconds for each contender) ran
 * out, but at least plan->min_samples; at most ROUNDS_FACTOR times as many where how->enough says
 * that more are needed. plan->samples, where not 0, is the least number of samples of each in
 * how->rounds rounds. Workers of the caller's are ended. */
enum status interleave(const struct trial_options *options, const struct measurement_plan *plan,
                       const struct interleaving *how, struct trial_pool *pool, struct arena *arena,
                       struct contender *contenders, size_t count, struct error *error);
#define ROUNDS_FACTOR 4

/* The part of run_list_walk() for one case. */
enum status interleave_case(const struct run_list *list, const struct measurement_plan *plan,
                            struct trial_pool *pool, const struct case_source *source,
                            struct arena *arena, run_visit visit, void *context, bool *stop,
                            struct error *error);

/* Minimum of each round, of a trial that was timed in rounds. Returns the rounds. */
int64_t interleave_round_minima(const struct measurement *measurement, double *minima);

#endif
