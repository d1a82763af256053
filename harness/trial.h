/* A trial: one implementation on one case, from an empty output to a verdict, and then to times. */
#ifndef ASSAY_HARNESS_TRIAL_H
#define ASSAY_HARNESS_TRIAL_H

#include "harness/case_source.h"
#include "harness/comparator.h"
#include "harness/worker.h"

struct trial_options {
    struct run_options run;
    struct tolerance tolerance;
    double timeout_s;
    bool class_given; /* run.cls is what implementations without a class of their own claim */
};

struct trial {
    char implementation[IMPLEMENTATION_NAME_SIZE];
    const char *binary;        /* another build of this program, in which it ran; NULL: this one */
    enum arithmetic_class cls; /* claimed */
    enum verdict verdict;
    char reason[1024];               /* why not pass; empty when pass */
    struct comparison_report report; /* verdicts pass, marginal and fail only */
    bool compared;
    double seconds; /* of the run, by a host clock */
    bool measured;
    struct measurement measurement;
};

/* Workers kept between trials, for implementations that may serve several. */
struct trial_pool;
enum status trial_pool_create(struct trial_pool **pool, struct error *error);
void trial_pool_free(struct trial_pool *pool);

/* Runs the implementation on the loaded arena and compares every element. The trial holds the
 * result whatever happened to the implementation; STATUS_ENVIRONMENT only when this program itself
 * cannot go on. With a plan, a verified implementation is timed, and the output of its last timed
 * run is compared again. */
enum status trial_run(struct trial_pool *pool, const char *implementation,
                      const struct trial_options *options, const struct measurement_plan *plan,
                      struct arena *arena, struct trial *trial, struct error *error);

/* The parts of trial_run, for those who time several implementations in turn (interleave.h).
 *
 * trial_begin: all up to the first verdict. *worker is left prepared where the trial may be timed,
 * else NULL; it is the pool's (which may be NULL), or the caller's where *own. `binary`: as in
 * struct trial; always the caller's worker. trial_time: times, and where `verify`, poisons y first
 * and compares it after. */
enum status trial_begin(struct trial_pool *pool, const char *implementation, const char *binary,
                        const struct trial_options *options, struct arena *arena,
                        struct trial *trial, struct worker **worker, bool *own,
                        struct error *error);
enum status trial_time(struct worker *worker, const struct trial_options *options,
                       const struct measurement_plan *plan, bool verify, struct arena *arena,
                       struct trial *trial, struct error *error);

/* Takes verdict and reason from the report. */
void trial_explain(struct trial *trial);

/* Compares a file's /expected with the oracle: STATUS_OK where they agree within the rounding of
 * the storage type and the fp64 bound, or where there is none; STATUS_FAILED with where they
 * differ. */
enum status expected_check(const struct case_source *source, const struct arena *arena,
                           struct error *error);

#endif
