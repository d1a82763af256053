/* Series: the records of a set that measured the same thing, over commits. */
#ifndef ASSAY_HARNESS_SERIES_H
#define ASSAY_HARNESS_SERIES_H

#include "harness/record_read.h"

/* What must agree for two times to be comparable. Texts are pooled in the record set. */
struct series_key {
    const char *machine, *problem;
    const char *data; /* the fill's name, or the case's where it came from a file */
    const char *implementation, *cls;
    int64_t threads;    /* 0: of no matter (on a GPU), or not known */
    bool other_threads; /* another series of the list differs in them alone */
};

struct series {
    struct series_key key;
    const int64_t *records; /* indices in the set, in the order of the files */
    int64_t count;
};

struct series_list {
    struct series *series;
    int64_t count;
    int64_t *storage;
};

struct series_key series_key_of(const struct record *record);

/* Whether an implementation runs on a GPU, by its name: a record may have no device, where it
 * failed. */
bool series_on_gpu(const char *implementation);

/* From so many runs on, a run is one observation (its median), and not each of its samples. */
#define RUNS_ENOUGH 6

/* Groups the bench records for which keep() is true (NULL: all), by machine, problem, data and
 * implementation: machines and problems in the order of their names, the others as they came. */
enum status series_build(const struct record_set *set,
                         bool (*keep)(const void *context, const struct record *record),
                         const void *context, struct series_list *list, struct error *error);
void series_release(struct series_list *list);

/* What decides which of two records is of the newer commit: < 0, 0, > 0. Commit time, where both
 * have one; else the time of the measurement. */
int series_compare_age(const struct record *a, const struct record *b);

/* "PROBLEM", or "PROBLEM, DATA" where the data is not the conditioned fill. */
void series_problem_text(const struct series_key *key, char *text, size_t size);

#define SERIES_NAME_SIZE 1100 /* of any implementation's, with threads */

/* "IMPLEMENTATION", or "IMPLEMENTATION, 4 threads" where other_threads. */
void series_implementation_text(const struct series_key *key, char *text, size_t size);

#endif
