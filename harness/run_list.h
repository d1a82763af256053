/* What verify and bench share: the cases and implementations of a run, and the walk over them. */
#ifndef ASSAY_HARNESS_RUN_LIST_H
#define ASSAY_HARNESS_RUN_LIST_H

#include "harness/suite.h"
#include "harness/trial.h"

/* Options that both commands have, as given. */
struct run_arguments {
    const char *implementations; /* comma-separated; NULL: every one that is not slow */
    const char *suite;
    int64_t random;     /* seeded random problems besides the cases named */
    const char *filter; /* glob on the case's name or descriptor; NULL: all */
    const char *fill;
    const char *cls;
    const char *tolerance;
    uint64_t seed;
    int64_t threads, device;
    double timeout_s;
    int64_t repeat;
    double memory_gb; /* 0: what the machine has */
    const char *commit;
};
struct run_arguments run_arguments_default(void);

#define RUN_OPTIONS(a)                                                                               \
    {"impl",                                                                                         \
     OPTION_STRING,                                                                                  \
     &(a).implementations,                                                                           \
     "NAME,...",                                                                                     \
     "implementations (default: all that are not slow)",                                             \
     0,                                                                                              \
     0},                                                                                             \
        {"suite", OPTION_STRING, &(a).suite, "FILE", "also the cases of a suite", 0, 0},             \
        {"random", OPTION_INTEGER, &(a).random, "N", "also N random problems (see --seed)",          \
         1,        RANDOM_MOST},                                                                     \
        {"filter",                                                                                   \
         OPTION_STRING,                                                                              \
         &(a).filter,                                                                                \
         "GLOB",                                                                                     \
         "only cases whose name or descriptor matches",                                              \
         0,                                                                                          \
         0},                                                                                         \
        {"fill", OPTION_STRING, &(a).fill, "NAME", "how descriptors are filled", 0, 0},              \
        {"seed", OPTION_SEED, &(a).seed, "N", "seed of the fill, or 'random' (default 1)", 0, 0},    \
        {"tolerance",                                                                                \
         OPTION_STRING,                                                                              \
         &(a).tolerance,                                                                             \
         "RULE",                                                                                     \
         "derived (default), or ATOL,RTOL",                                                          \
         0,                                                                                          \
         0},                                                                                         \
        {"class",                                                                                    \
         OPTION_STRING,                                                                              \
         &(a).cls,                                                                                   \
         "NAME",                                                                                     \
         "class claimed by exec: and plugin:, and allowed to gpu-auto",                              \
         0,                                                                                          \
         0},                                                                                         \
        {"threads", OPTION_INTEGER, &(a).threads, "N", "CPU threads (default: all cores)", 1, 4096}, \
        {"device", OPTION_INTEGER, &(a).device, "N", "CUDA device (default 0)", 0, 1024},            \
        {"repeat",                                                                                   \
         OPTION_INTEGER,                                                                             \
         &(a).repeat,                                                                                \
         "N",                                                                                        \
         "runs of one input, compared bit by bit (default 2)",                                       \
         1,                                                                                          \
         1e6},                                                                                       \
        {"memory", OPTION_REAL, &(a).memory_gb, "GB", "memory that an implementation may take",      \
         0.001,    1e6},                                                                             \
    {                                                                                                \
        "timeout", OPTION_REAL, &(a).timeout_s, "S", "seconds for one step (default 600)", 0.001,    \
            1e9                                                                                      \
    }

/* How bench times the implementations of a case: in turn where rounds > 1 (interleave.h). After
 * `rounds` rounds, and at twice and four times as many, enough() is asked whether that will do;
 * NULL: it will. */
struct contender;
struct interleaving {
    int64_t rounds;
    bool (*enough)(void *context, const struct contender *contenders, size_t count);
    void *context;
    const char *against; /* another build of this program: each implementation runs in both */
    const char *binary;  /* with `against`: a build that runs them in place of this program */
};

struct run_list {
    struct run_arguments arguments;
    struct interleaving interleaving;
    struct trial_options options;
    /* True: the trial is left out, and where not `ask` it is now. NULL: none is. */
    bool (*skip)(void *context, const struct case_source *source, const char *implementation,
                 const char *reproduce, bool ask);
    const struct fill *fill;
    struct suite cases;
    char **implementations;
    size_t implementation_count;
};

/* Checks all that can be checked before anything runs. `words`: the cases of the command line. */
enum status run_list_init(struct run_list *list, const struct run_arguments *arguments,
                          char **words, int word_count, struct error *error);
void run_list_release(struct run_list *list);

/* Called for each trial as soon as it is over (of a case whose implementations are timed in turn,
 * when the case is; with `against`, the other binary's trial comes before this one's); false stops
 * the walk. */
typedef bool (*run_visit)(void *context, const struct case_source *source,
                          const struct trial *trial);

/* What the list's skip() says; context is the walk's. */
bool run_list_skips(const struct run_list *list, const struct case_source *source,
                    const char *implementation, bool ask, void *context);

/* Whether a walk would have anything to run: opens cases until one can be opened. */
bool run_list_any_opens(const struct run_list *list);

/* Walks cases x implementations. A case that cannot be read is reported on stderr and the walk goes
 * on; the status is the first such error's, so that the program says so at the end. A case that
 * holds a wrong /expected fails for each implementation. */
enum status run_list_walk(const struct run_list *list, const struct measurement_plan *plan,
                          run_visit visit, void *context, struct error *error);

/* The options that a trial may end otherwise without, where they are not the default, as words with
 * a space before each; --device only where `device`. size >= RUN_CHANGED_SIZE. */
#define RUN_CHANGED_SIZE 192
void run_changed_options(const struct run_arguments *arguments, bool device, char *text,
                         size_t size);

/* The one line that runs a trial again: `assay verify ...`, or `assay check ...`, whose
 * implementation is the output file. Holds every option that is not the default. */
void run_reproduce(const struct run_list *list, const struct case_source *source,
                   const struct trial *trial, const char *command, char *line, size_t size);

#endif
