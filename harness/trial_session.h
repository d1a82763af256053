/* Inside a trial (trial.c, trial_verify.c): its runs, and what is looked at after each. */
#ifndef ASSAY_HARNESS_TRIAL_SESSION_H
#define ASSAY_HARNESS_TRIAL_SESSION_H

#include "harness/trial.h"

/* One trial under way. */
struct session {
    struct trial *trial;
    const struct trial_options *options;
    struct arena *arena;
    struct worker *worker;
    struct arena_inputs inputs; /* as they must be after every run */
    bool foreign;
};

/* Pass or marginal. */
bool trial_is_good(const struct trial *trial);

void trial_set_verdict(struct trial *trial, enum verdict verdict, const char *format, ...)
    ASSAY_PRINTF(3, 4);

/* Puts `what` before the reason. */
void trial_prefix_reason(struct trial *trial, const char *what);

/* Verdict and reason of an answer that is not WORKER_DONE. */
void trial_take_outcome(struct trial *trial, const struct worker_answer *answer);

/* Images 0, step, 2 step, ... of the arena's y against the oracle; `which` is the poison that y was
 * filled with. Sets report, verdict and reason. */
enum status session_compare(struct session *session, int which, int64_t step, struct error *error);

/* Everything that can be wrong after a run but the values: the process, what it started, inputs,
 * guards. A foreign worker is left frozen. False: the verdict is set. */
bool session_look_around(struct session *session);
void session_thaw(struct session *session);

/* All runs that lead to a verdict; the worker is prepared. */
enum status session_verify(struct session *session, struct error *error);

#endif
