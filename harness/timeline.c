#include "harness/timeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/change_points.h"
#include "harness/comparison.h"
#include "harness/git.h"

/* ---- the order of commits ----------------------------------------------------------------------
 */

struct commit_place {
    const char *commit; /* GIT_COMMIT_DIGITS characters, not ended */
    int64_t place;
};

static int compare_places(const void *a, const void *b)
{
    return memcmp(((const struct commit_place *)a)->commit,
                  ((const struct commit_place *)b)->commit, GIT_COMMIT_DIGITS);
}

void commit_order_init(struct commit_order *o)
{
    *o = (struct commit_order){.text = git_all_commits()};
    const size_t n = o->text ? strlen(o->text) / (GIT_COMMIT_DIGITS + 1) : 0;
    o->places = calloc(n + 1, sizeof *o->places);
    for (size_t i = 0; i < n && o->places; i++)
        o->places[o->count++] =
            (struct commit_place){o->text + i * (GIT_COMMIT_DIGITS + 1), (int64_t)i};
    if (o->count > 0)
        qsort(o->places, (size_t)o->count, sizeof *o->places, compare_places);
}

void commit_order_release(struct commit_order *o)
{
    free(o->text);
    free(o->places);
    *o = (struct commit_order){0};
}

int64_t commit_order_find(const struct commit_order *o, const char *commit)
{
    if (strlen(commit) < GIT_COMMIT_DIGITS || o->count == 0)
        return -1;
    const struct commit_place key = {.commit = commit};
    const struct commit_place *found =
        bsearch(&key, o->places, (size_t)o->count, sizeof key, compare_places);
    return found ? found->place : -1;
}

/* ---- a timeline --------------------------------------------------------------------------------
 */

struct entry {
    const struct record *record;
    int64_t place, index;
};

/* In the repository's order where it knows all of the commits, else by time. */
static int compare_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    if (a->record->commit != b->record->commit) {
        int c = a->place >= 0 && b->place >= 0 ? (a->place > b->place) - (a->place < b->place)
                                               : series_compare_age(a->record, b->record);
        c = c ? c : strcmp(a->record->commit, b->record->commit);
        if (c)
            return c;
    }
    return (a->index > b->index) - (a->index < b->index);
}

static void fill_point(const struct record_set *set, const struct record *const *runs, int64_t n,
                       struct timeline_point *point)
{
    double samples[MEASUREMENT_SAMPLES];
    const bool by_run = n >= RUNS_ENOUGH; /* or the run with the most samples would speak alone */
    *point = (struct timeline_point){.newest = runs[n - 1], .runs = n};
    for (int64_t i = 0; i < n; i++)
        if (record_failed(runs[i])) /* one failing run of several is what the commit is known by */
            point->newest = runs[i];
    const int64_t count = comparison_samples(set, runs, n, by_run, samples);
    point->timed = count > 0;
    if (point->timed)
        point->median = median_of(samples, count, 0.95);
}

/* Marks the points at which the level changes. */
static enum status mark_changes(struct timeline *t, double noise_least, struct error *error)
{
    const size_t room = (size_t)t->count + 1;
    double *logs = malloc(room * sizeof *logs);
    int64_t *at = malloc(room * sizeof *at), *changes = malloc(room * sizeof *changes);
    int64_t n = 0, count = 0;
    enum status status = STATUS_OK;
    if (!logs || !at || !changes)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for a timeline");
    for (int64_t i = 0; i < t->count && status == STATUS_OK; i++)
        if (t->points[i].timed) {
            logs[n] = log(t->points[i].median.median);
            at[n++] = i;
        }
    if (status == STATUS_OK)
        status = change_points(logs, n, change_noise(logs, n, noise_least), changes, &count, error);
    for (int64_t k = 0; k < count && status == STATUS_OK; k++) {
        const int64_t from = k ? changes[k - 1] : 0, to = k + 1 < count ? changes[k + 1] : n;
        struct timeline_point *p = &t->points[at[changes[k]]];
        p->change = true;
        p->before = exp(median_of(logs + from, changes[k] - from, 0.5).median);
        p->after = exp(median_of(logs + changes[k], to - changes[k], 0.5).median);
    }
    t->timed = n;
    t->changes = count;
    free(logs);
    free(at);
    free(changes);
    return status;
}

enum status timeline_build(const struct record_set *set, const struct series *series,
                           const struct commit_order *order, double noise_least, bool dirty,
                           struct timeline *t, struct error *error)
{
    *t = (struct timeline){.key = series->key};
    struct entry *entries = malloc(((size_t)series->count + 1) * sizeof *entries);
    const struct record **runs = malloc(((size_t)series->count + 1) * sizeof *runs);
    t->points = malloc(((size_t)series->count + 1) * sizeof *t->points);
    enum status status = STATUS_OK;
    int64_t n = 0;
    if (!entries || !runs || !t->points)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for a timeline");
    for (int64_t i = 0; i < series->count && status == STATUS_OK; i++) {
        const struct record *r = &set->records[series->records[i]];
        const struct record *last = n ? entries[n - 1].record : NULL;
        if (dirty || !r->dirty)
            entries[n++] = (struct entry){r,
                                          last && last->commit == r->commit
                                              ? entries[n - 1].place
                                              : commit_order_find(order, r->commit),
                                          series->records[i]};
    }
    bool known = true;
    for (int64_t i = 0; i < n; i++)
        known &= entries[i].place >= 0;
    for (int64_t i = 0; i < n && !known; i++)
        entries[i].place = -1;
    if (n > 0)
        qsort(entries, (size_t)n, sizeof *entries, compare_entries);
    for (int64_t i = 0; i < n; i++)
        runs[i] = entries[i].record;
    for (int64_t i = 0; i < n && status == STATUS_OK;) {
        int64_t end = i + 1;
        while (end < n && runs[end]->commit == runs[i]->commit)
            end++;
        fill_point(set, runs + i, end - i, &t->points[t->count++]);
        i = end;
    }
    if (status == STATUS_OK)
        status = mark_changes(t, noise_least, error);
    if (status != STATUS_OK)
        timeline_release(t);
    free(entries);
    free(runs);
    return status;
}

void timeline_release(struct timeline *t)
{
    free(t->points);
    *t = (struct timeline){0};
}

/* ---- the plot ----------------------------------------------------------------------------------
 */

void timeline_plot(const struct timeline *t, int columns, int rows)
{
    double low = INFINITY, high = 0.0;
    for (int64_t i = 0; i < t->count; i++)
        if (t->points[i].timed) {
            low = fmin(low, t->points[i].median.median);
            high = fmax(high, t->points[i].median.median);
        }
    if (t->timed < 2)
        return;
    if (high < 1.02 * low) { /* noise is not to look like a mountain */
        const double middle = 0.5 * (low + high);
        low = 0.99 * middle;
        high = 1.01 * middle;
    }
    if (t->count < columns)
        columns = (int)t->count;
    const char **cells = calloc((size_t)(columns * rows), sizeof *cells);
    if (!cells)
        return;
    for (int64_t i = 0; i < t->count; i++) {
        const struct timeline_point *p = &t->points[i];
        const int column = (int)(i * columns / t->count);
        for (int row = 0; row < rows && p->change; row++)
            if (!cells[row * columns + column])
                cells[row * columns + column] = "│";
        if (p->timed) {
            const double share = (p->median.median - low) / (high - low);
            const int row = (int)lround((1.0 - share) * (rows - 1));
            cells[row * columns + column] = record_failed(p->newest) ? "✗" : "•";
        } else {
            cells[(rows - 1) * columns + column] = "✗";
        }
    }
    for (int row = 0; row < rows; row++) {
        const double level = high - (high - low) * row / (rows - 1);
        if (row % 3 == 0 || row == rows - 1)
            printf("  %10.4g ms ┤", level * 1e3);
        else
            printf("  %13s │", "");
        for (int column = 0; column < columns; column++) {
            const char *cell = cells[row * columns + column];
            fputs(cell ? cell : " ", stdout);
        }
        printf("\n");
    }
    free(cells);
}
