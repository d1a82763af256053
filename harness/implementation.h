/* Implementations: everything that can compute y stands behind one interface.
 *
 * An implementation is named in one of three ways:
 *
 *     NAME           a row of the table: cpu-direct, cpu-gemm, ..., each GPU variant
 *     exec:COMMAND   a shell command; {case} and {output} are replaced by the paths of a case file
 *                    and of the output file that the command must write
 *     plugin:PATH    a shared library (harness/plugin.h)
 *
 * The functions below run in a process of their own (harness/worker.h), on tensors in memory shared
 * with the program. */
#ifndef ASSAY_HARNESS_IMPLEMENTATION_H
#define ASSAY_HARNESS_IMPLEMENTATION_H

#include <limits.h>

#include "harness/measurement.h"
#include "ref/arithmetic_class.h"
#include "ref/problem.h"

#define IMPLEMENTATION_NAME_SIZE 1024

struct run_options {
    int threads;               /* OpenMP threads, at least 1 */
    int device;                /* CUDA device */
    enum arithmetic_class cls; /* what gpu-auto may not exceed */
};

struct implementation {
    const char *name;
    const char *summary;
    enum arithmetic_class cls;

    /* Left out unless it is named. */
    bool slow;
    /* May serve one case after another in one process: a row of the table whose start is dear. */
    bool reuse_process;

    /* Somebody else's code: its class is what the user claims for it, and nothing of it is called
     * outside a worker. */
    bool foreign;

    /* Chooses what to run by the class that the user allows, and so claims that class. */
    bool takes_class;

    /* For the rows that share functions: which of them this is. */
    const void *row;

    /* Of an exec:, in a worker: where its files go. */
    const char *folder;

    /* False, with one line in `reason`. Cheap. */
    bool (*supports)(const struct implementation *i, const struct problem *problem,
                     const struct run_options *options, char *reason, size_t reason_size);

    /* Makes *state for a problem and its parameters, which outlive it. */
    enum status (*prepare)(const struct implementation *i, const struct problem *problem,
                           const struct params *params, const struct run_options *options,
                           void **state, struct error *error);

    /* y = model(x), host pointers, the whole batch. */
    enum status (*run)(void *state, const float *x, float *y, struct error *error);

    /* After prepare, where the implementation itself says what it is: its class. May be NULL. */
    enum arithmetic_class (*declared)(void *state);

    /* True where measure() works for this state. NULL: wherever measure() is there. */
    bool (*measures)(void *state);

    /* Times runs and leaves the last run's output in y. NULL: run() is timed by a host clock; of a
     * foreign implementation from outside its process. */
    enum status (*measure)(void *state, const float *x, float *y,
                           const struct measurement_plan *plan, struct measurement *result,
                           struct error *error);

    /* What the last run chose or where its time went; may be NULL. */
    void (*describe)(void *state, struct measurement *result);

    /* Before release(), where what foreign code does in its own is to be judged; may be NULL. */
    enum status (*finish)(void *state, struct error *error);

    void (*release)(void *state);
};

/* The table: CPU forms first, then the GPU ladder. */
size_t implementation_count(void);
const struct implementation *implementation_at(size_t index);

/* Resolves a name to an implementation in the caller's storage. STATUS_BAD_INPUT with the names
 * that exist. */
enum status implementation_resolve(const char *name, struct implementation *implementation,
                                   struct error *error);

/* The parts of the table (implementation_*.c). */
extern const struct implementation implementations_cpu[];
extern const size_t implementations_cpu_count;
struct implementation implementation_gpu_at(size_t index);
size_t implementation_gpu_count(void);
enum status implementation_exec_init(struct implementation *implementation, const char *name,
                                     struct error *error);
/* The folder of an exec:'s files. The program makes it for the worker and removes it with all that
 * is there, because a worker may be killed. */
enum status implementation_exec_make_folder(char folder[PATH_MAX], struct error *error);
void implementation_exec_clean(const char *folder);
enum status implementation_plugin_init(struct implementation *implementation, const char *name,
                                       struct error *error);

#endif
