/* A worker: the process in which an implementation under test runs.
 *
 * The program starts itself again (`assay worker`, never typed by a person) in a process group of
 * its own, and speaks with it over a socket; tensors lie in an arena that both map. Whatever the
 * implementation does to its process (crash, hang, exit, corrupt its heap) ends that process and
 * nothing else. A fresh program, not a fork, because neither OpenMP nor CUDA survives one.
 *
 * Nothing that it starts outlives it: the program is the subreaper of its descendants
 * (harness/strays.h). It has no open files but its socket, /dev/null and stderr, to which its
 * stdout is joined, so that nothing it prints mixes with results. */
#ifndef ASSAY_HARNESS_WORKER_H
#define ASSAY_HARNESS_WORKER_H

#include "harness/arena.h"
#include "harness/implementation.h"

struct worker;

enum worker_outcome {
    WORKER_DONE,        /* the answer is valid */
    WORKER_UNSUPPORTED, /* the implementation does not do this problem, or not here; message says */
    WORKER_FAILED,      /* the implementation reported an error; message says */
    WORKER_CRASHED,     /* the process ended; message names the signal or the exit status */
    WORKER_TIMEOUT,     /* killed after timeout_s */
    WORKER_MEMORY,      /* killed because the machine, or its share of it, ran out of memory */
};

struct worker_answer {
    enum worker_outcome outcome;
    enum status status; /* of a WORKER_FAILED: STATUS_ENVIRONMENT or STATUS_FAILED */
    char message[1024];
    double seconds; /* inside the implementation, by a host clock */

    /* After prepare. */
    bool class_declared; /* the implementation itself says what it is: */
    enum arithmetic_class cls;
    bool measures; /* worker_measure() works; else its runs are timed from outside */
};

/* Starts a process for one implementation. `binary`: another build of this program that is to run
 * it; NULL: this one. One that speaks another protocol ends before it has answered. Its anonymous
 * memory may not exceed memory_limit bytes (0: what the machine has). STATUS_ENVIRONMENT when it
 * can't be started. */
enum status worker_create(struct worker **worker, const char *binary, const char *implementation,
                          const struct run_options *options, size_t memory_limit,
                          struct error *error);

/* Ends the process, by force where it does not go. NULL is legal. */
void worker_free(struct worker *worker);

/* Ends all that run, with their process groups, and removes their files: for the handler of a
 * signal that ends the program. */
void worker_end_all(void);

/* False once the process is gone: a new worker must be made. */
bool worker_alive(const struct worker *worker);

/* Shares the arena and prepares the implementation for its problem and parameters; replaces what
 * was prepared before. */
void worker_prepare(struct worker *worker, const struct arena *arena, double timeout_s,
                    struct worker_answer *answer);

/* y = model(x) in the arena; fills arena->measurement's stage times and note. */
void worker_run(struct worker *worker, double timeout_s, struct worker_answer *answer);

/* Times; the samples are in arena->measurement, the last run's output in y. */
void worker_measure(struct worker *worker, const struct measurement_plan *plan, double timeout_s,
                    struct worker_answer *answer);

/* Frees what was prepared: the next is another worker_prepare(), or the end. */
void worker_release(struct worker *worker, double timeout_s, struct worker_answer *answer);

/* Stops every thread of the process, so that nothing of it runs while its output is looked at, and
 * lets them go on. False when the process is gone. */
bool worker_freeze(struct worker *worker);
void worker_thaw(struct worker *worker);

/* Kills the processes that the implementation has started and left behind, where they don't go by
 * themselves within grace_s; how many there were. */
int worker_kill_strays(struct worker *worker, double grace_s);

/* The other side: the body of `assay worker [FOLDER]`, which is for the files of an exec:. Returns
 * the exit status. */
int worker_main(const char *folder);

#endif
