/* A trial: one implementation on one case, from an empty output to a verdict, and then to times.
 *
 * The implementation is run several times in one process:
 *
 *     1. on the case, y filled with the first pattern     every element against the oracle
 *     2. on the same case, y with the second pattern      bit for bit the same, or named
 *        (as often as `repeat` says)                       nondeterministic, or reading its output
 *     3. on x rotated by one element                      first and last image against the oracle:
 *                                                          an output kept from an earlier run shows
 *
 * After each run: guards, hashes of all inputs, and for foreign code that it has stopped: its
 * process is frozen while its output is read, and what it started is killed and counted. Timed runs
 * of foreign code on the host are timed from this side of the socket, each on other data, and the
 * last one's output is verified. What foreign code frees in the end is watched as a run. */
#ifndef ASSAY_HARNESS_TRIAL_H
#define ASSAY_HARNESS_TRIAL_H

#include "harness/case_source.h"
#include "harness/comparator.h"
#include "harness/worker.h"

struct trial_options {
    struct run_options run;
    struct tolerance tolerance;
    double timeout_s;
    bool class_given;    /* run.cls is what implementations without a class of their own claim */
    int repeat;          /* runs of the same input, at least 1; with 1 also no run on other data */
    size_t memory_limit; /* bytes that a worker may take; 0: what there is */
};

struct trial {
    char implementation[IMPLEMENTATION_NAME_SIZE];
    const char *binary;        /* another build of this program, in which it ran; NULL: this one */
    bool foreign, measures;    /* somebody else's code; times itself */
    enum arithmetic_class cls; /* claimed */
    enum verdict verdict;
    bool bad_input;                  /* crashed: it could not be run at all, by the user's doing */
    char reason[1024];               /* why not pass; empty when pass */
    struct comparison_report report; /* verdicts pass, marginal and fail only */
    char looks_like[160];            /* the wrong kernel that a failed output resembles, or empty */
    bool compared;
    bool claim_broken; /* wrong for the class claimed, right for the wider report.narrowest */
    double seconds;    /* of the run, by a host clock */
    int64_t repeats;   /* runs of the same input that were compared bit by bit */
    int64_t differing_images;  /* images that were not the same in all of them */
    const struct arena *arena; /* the tensors, y as the last run left it; while it is visited */
    bool inputs_damaged;       /* the arena's inputs must be loaded again */
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

/* Foreign code frees what it had prepared, watched as in a run; the verdict is spoilt where that
 * goes wrong. For a worker that is the caller's and is of no more use; nothing is done where there
 * is none, or the trial is not good. */
void trial_release(struct worker *worker, const struct trial_options *options, struct arena *arena,
                   struct trial *trial);

/* Takes verdict and reason from the report. */
void trial_explain(struct trial *trial);

/* Compares a file's /expected with the oracle: STATUS_OK where they agree within the rounding of
 * the storage type and the fp64 bound, or where there is none; STATUS_FAILED with where they
 * differ. */
enum status expected_check(const struct case_source *source, const struct arena *arena,
                           struct error *error);

#endif
