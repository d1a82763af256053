/* Comparing two sets of records: what became faster, slower, wrong or right. */
#ifndef ASSAY_HARNESS_COMPARISON_H
#define ASSAY_HARNESS_COMPARISON_H

#include "harness/series.h"
#include "harness/statistics.h"

/* The confidence of one ratio's interval. With two sides and the noise on top, less than 0.5 % of
 * comparisons of identical code come out SLOWER. */
#define COMPARISON_CONFIDENCE 0.99

/* By how much identical code may differ where no calibration says it: samples that were taken in
 * turn, and samples of runs apart. */
#define NOISE_INTERLEAVED 0.01
#define NOISE_SEPARATE 0.03

/* One side: what the word on the command line stands for. */
struct comparison_side {
    const char *word;
    char commit[48];    /* a commit, 12 digits; empty: of each series, the newest of these: */
    int64_t first, end; /* records [first, end) of the set, of a file or folder */
};

struct comparison_options {
    double confidence;
    double noise; /* at least this much; < 0: from calibration or the defaults above */
    bool dirty;   /* records of trees that differed from the commit count, too */
};

struct comparison {
    struct series_key key;
    const struct record *a, *b; /* the newest of each side; NULL: this side has none */
    int64_t a_runs, b_runs;
    bool timed; /* both sides have samples, and what follows is filled */
    struct median a_median, b_median;
    struct ratio ratio;
    double noise;
    enum change change;
    bool interleaved; /* from pairs of samples that were taken in turn */
    bool identical;   /* the same binary on both sides: a difference is noise */
    bool failure;     /* b fails, crashes or times out and a did not */
    bool repaired;    /* the reverse */
};

/* Series of A that have no partner in B but for another machine. */
struct comparison_apart {
    struct series_key a, b;
};

struct comparison_list {
    struct comparison *rows;
    int64_t count;
    struct comparison_apart *apart;
    int64_t apart_count;
    int64_t identical;      /* timed rows with the same binary on both sides */
    double identical_worst; /* the largest |ratio - 1| of them */
};

/* Compares the records of two sides. The set must hold the records of both, and may hold
 * calibration records. Rows come in the order of series_build(). */
enum status comparison_make(const struct record_set *set, const struct comparison_side *a,
                            const struct comparison_side *b,
                            const struct comparison_options *options, struct comparison_list *list,
                            struct error *error);
void comparison_release(struct comparison_list *list);

/* The noise of a machine: from its newest calibration record of this implementation, else of
 * another of the same kind (CPU or GPU), else the default. */
double comparison_noise(const struct record_set *set, const struct series_key *key,
                        bool interleaved);

/* The least standard deviation of a commit's level in a history: a tenth of what runs apart differ
 * by at the most. */
double comparison_level_noise(const struct record_set *set, const struct series_key *key);

/* The samples of several runs: one run behind the other and each in its order, because the ratio is
 * made from neighbours. Where they are more than MEASUREMENT_SAMPLES each run has an equal share of
 * that room and fills it with medians of neighbours. (Every k-th sample instead would be at the
 * same place of each round.) Of more runs than there is room for, some are left out, evenly spread.
 * by_run: the median of each run instead. Returns how many there are. */
int64_t comparison_samples(const struct record_set *set, const struct record *const *runs,
                           int64_t count, bool by_run, double samples[MEASUREMENT_SAMPLES]);

/* Fails, crashes or times out. */
bool record_failed(const struct record *record);

/* Counts SLOWER rows whose ratio is beyond 1 + threshold and whose binaries differ, and rows with a
 * new failure. */
int64_t comparison_regressions(const struct comparison_list *list, double threshold);

/* The newest record of A's rows, or of B's; NULL: there is none. */
const struct record *comparison_newest(const struct comparison_list *list, bool second);

/* Of the same commit, and both of its tree or both of a changed one. */
bool comparison_same_tree(const struct record *a, const struct record *b);

/* Geometric mean of the ratios of the timed rows of one machine (NULL: of all); NaN for none. */
double comparison_mean(const struct comparison_list *list, const char *machine, int64_t *count);

#endif
