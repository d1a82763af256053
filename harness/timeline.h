/* Timelines: a series commit by commit, in commit order, with its change points. */
#ifndef ASSAY_HARNESS_TIMELINE_H
#define ASSAY_HARNESS_TIMELINE_H

#include "harness/series.h"
#include "harness/statistics.h"

/* One commit's measurements of one series. */
struct timeline_point {
    const struct record *newest;
    int64_t runs;
    bool timed;
    struct median median; /* of all samples of the commit, or of its runs' medians; seconds */
    bool change;          /* the level changes between the point before and this one */
    double before, after; /* of a change: the levels on its two sides, seconds */
};

struct timeline {
    struct series_key key;
    struct timeline_point *points;
    int64_t count, timed, changes;
};

/* The order of commits: that of the repository where it knows all of a series, else of their times.
 */
struct commit_order {
    char *text; /* 12 digits and a newline each; NULL: no repository */
    struct commit_place *places;
    int64_t count;
};
void commit_order_init(struct commit_order *order);
void commit_order_release(struct commit_order *order);
/* Where a commit stands; -1: not known. */
int64_t commit_order_find(const struct commit_order *order, const char *commit);

/* Builds the timeline of one series. Change points: change_points.h on the logarithms of the
 * medians of points that are timed; noise as the series shows it, at least `noise_least`
 * (relative). */
enum status timeline_build(const struct record_set *set, const struct series *series,
                           const struct commit_order *order, double noise_least, bool dirty,
                           struct timeline *timeline, struct error *error);
void timeline_release(struct timeline *timeline);

/* A plot of characters on stdout, `columns` wide and `rows` high: medians over points, change
 * points as vertical lines. */
void timeline_plot(const struct timeline *timeline, int columns, int rows);

#endif
