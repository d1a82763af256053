#include "harness/comparison.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool record_failed(const struct record *r)
{
    return r && (strcmp(r->verdict, "fail") == 0 || strcmp(r->verdict, "crashed") == 0 ||
                 strcmp(r->verdict, "timeout") == 0);
}

double comparison_noise(const struct record_set *set, const struct series_key *key,
                        bool interleaved)
{
    const struct record *best = NULL;
    int best_rank = 0;
    for (int64_t i = 0; i < set->count && set->calibrations > 0; i++) {
        const struct record *r = &set->records[i];
        if (r->machine != key->machine || strcmp(r->kind, "calibration") != 0 ||
            isnan(interleaved ? r->interleaved_noise : r->separate_noise))
            continue;
        const int rank = r->implementation == key->implementation ? 2
                         : series_on_gpu(r->implementation) == series_on_gpu(key->implementation)
                             ? 1
                             : 0;
        if (rank > 0 && (!best || rank > best_rank ||
                         (rank == best_rank &&
                          strcmp(r->time ? r->time : "", best->time ? best->time : "") >= 0))) {
            best = r;
            best_rank = rank;
        }
    }
    if (best)
        return interleaved ? best->interleaved_noise : best->separate_noise;
    return interleaved ? NOISE_INTERLEAVED : NOISE_SEPARATE;
}

double comparison_level_noise(const struct record_set *set, const struct series_key *key)
{
    return 0.1 * comparison_noise(set, key, false);
}

static bool matches(const struct comparison_side *side, const struct comparison_options *options,
                    const struct record *r, int64_t place)
{
    if (!side->commit[0])
        return place >= side->first && place < side->end;
    return strncmp(r->commit, side->commit, strlen(side->commit)) == 0 &&
           (options->dirty || !r->dirty);
}

/* The records of one side of a series: of the newest commit where the side is a file. */
struct selection {
    const struct record **records;
    int64_t count;
};

static void select_side(const struct record_set *set, const struct series *series,
                        const struct comparison_side *side,
                        const struct comparison_options *options, struct selection *out)
{
    out->count = 0;
    for (int64_t i = 0; i < series->count; i++) {
        const struct record *r = &set->records[series->records[i]];
        if (!matches(side, options, r, series->records[i]))
            continue;
        if (out->count > 0 && !side->commit[0] && r->commit != out->records[0]->commit) {
            if (series_compare_age(r, out->records[0]) < 0)
                continue;
            out->count = 0;
        }
        out->records[out->count++] = r;
    }
}

/* Of the room for samples, what the i-th of `count` runs may fill: as much as any other. */
static int64_t equal_share(int64_t i, int64_t count)
{
    return (i + 1) * MEASUREMENT_SAMPLES / count - i * MEASUREMENT_SAMPLES / count;
}

int64_t comparison_samples(const struct record_set *set, const struct record *const *runs,
                           int64_t count, bool by_run, double samples[MEASUREMENT_SAMPLES])
{
    int64_t total = 0, n = 0;
    for (int64_t i = 0; i < count; i++)
        total += by_run ? 1 : runs[i]->sample_count;
    for (int64_t i = 0; i < count; i++) {
        const struct record *r = runs[i];
        int64_t share = by_run ? 1 : r->sample_count;
        if (total > MEASUREMENT_SAMPLES)
            share = equal_share(i, count);
        n += block_medians(record_samples(set, r), r->sample_count, share, samples + n);
    }
    return n;
}

static bool in_rounds(const struct record *r)
{
    return r->rounds > 1.0 && r->sample_count > 0 && r->sample_count % (int64_t)r->rounds == 0;
}

/* Records of one run; one that stands on both sides is no pair. */
static bool in_turn(const struct record *a, const struct record *b)
{
    return a->hash != b->hash && a->run && a->run == b->run && in_rounds(a) && in_rounds(b) &&
           a->rounds == b->rounds;
}

/* Round minima of the pairs of records; where there is no room for all, each pair's of as many
 * rounds together as it takes. */
static int64_t pair_up(const struct record_set *set, const struct selection *a,
                       const struct selection *b, double *x, double *y)
{
    int64_t pairs = 0, total = 0, seen = 0, n = 0;
    for (int64_t i = 0; i < a->count; i++)
        for (int64_t k = 0; k < b->count; k++)
            if (in_turn(a->records[i], b->records[k])) {
                pairs++;
                total += (int64_t)a->records[i]->rounds;
            }
    for (int64_t i = 0; i < a->count; i++)
        for (int64_t k = 0; k < b->count; k++) {
            const struct record *ra = a->records[i], *rb = b->records[k];
            if (!in_turn(ra, rb))
                continue;
            int64_t rounds = (int64_t)ra->rounds;
            const int64_t share = equal_share(seen++, pairs);
            if (total > MEASUREMENT_SAMPLES && share < rounds)
                rounds = share;
            block_minima(record_samples(set, ra), ra->sample_count, rounds, x + n);
            block_minima(record_samples(set, rb), rb->sample_count, rounds, y + n);
            n += rounds;
        }
    return n;
}

static void compare_times(const struct record_set *set, const struct selection *a,
                          const struct selection *b, const struct comparison_options *options,
                          struct comparison *c)
{
    double x[MEASUREMENT_SAMPLES], y[MEASUREMENT_SAMPLES];
    int64_t na = comparison_samples(set, a->records, a->count, false, x),
            nb = comparison_samples(set, b->records, b->count, false, y);
    if (na == 0 || nb == 0)
        return;
    c->timed = true;
    c->a_median = median_of(x, na, 0.95);
    c->b_median = median_of(y, nb, 0.95);
    c->identical = c->a->binary && c->a->binary == c->b->binary;
    const int64_t pairs = pair_up(set, a, b, x, y);
    c->interleaved = pairs > 0;
    if (pairs > 0) {
        c->ratio = ratio_paired(x, y, pairs, options->confidence);
    } else {
        if (a->count >= RUNS_ENOUGH && b->count >= RUNS_ENOUGH) {
            na = comparison_samples(set, a->records, a->count, true, x);
            nb = comparison_samples(set, b->records, b->count, true, y);
        }
        c->ratio = ratio_unpaired(x, na, y, nb, options->confidence);
    }
    c->noise =
        options->noise >= 0.0 ? options->noise : comparison_noise(set, &c->key, c->interleaved);
    c->change = change_decide(&c->ratio, c->noise);
}

/* What identical binaries differ by, on one machine and one way of sampling, other binaries may,
 * too. */
static void raise_noise(struct comparison_list *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        const struct comparison *gauge = &list->rows[i];
        if (!gauge->timed || !gauge->identical)
            continue;
        const double r = gauge->ratio.ratio, seen = (r > 1.0 ? r : 1.0 / r) - 1.0;
        for (int64_t k = 0; k < list->count; k++) {
            struct comparison *c = &list->rows[k];
            if (c->timed && !c->identical && c->key.machine == gauge->key.machine &&
                c->interleaved == gauge->interleaved && c->noise < seen) {
                c->noise = seen;
                c->change = change_decide(&c->ratio, c->noise);
            }
        }
    }
}

/* Whether a series has its like on the other side, but on another machine. */
static bool same_but_machine(const struct series_key *a, const struct series_key *b)
{
    return a->machine != b->machine && a->implementation == b->implementation &&
           a->problem == b->problem && a->data == b->data && a->cls == b->cls;
}

static enum status find_apart(struct comparison_list *list, struct error *error)
{
    for (int64_t i = 0; i < list->count; i++) {
        const struct comparison *a = &list->rows[i];
        if (!a->a || a->b)
            continue;
        for (int64_t k = 0; k < list->count; k++) {
            const struct comparison *b = &list->rows[k];
            if (b->a || !b->b || !same_but_machine(&a->key, &b->key))
                continue;
            struct comparison_apart *grown =
                realloc(list->apart, (size_t)(list->apart_count + 1) * sizeof *grown);
            if (!grown)
                return error_set(error, STATUS_ENVIRONMENT, "out of memory");
            list->apart = grown;
            grown[list->apart_count++] = (struct comparison_apart){a->key, b->key};
            break;
        }
    }
    return STATUS_OK;
}

static void compare_series(const struct record_set *set, struct selection *sa, struct selection *sb,
                           const struct comparison_options *options, struct comparison *c)
{
    c->a = sa->count ? sa->records[sa->count - 1] : NULL;
    c->b = sb->count ? sb->records[sb->count - 1] : NULL;
    c->a_runs = sa->count;
    c->b_runs = sb->count;
    for (int64_t i = 0; i < sb->count; i++) /* one failing run of several is a failure */
        if (record_failed(sb->records[i]))
            c->b = sb->records[i];
    c->failure = record_failed(c->b) && !record_failed(c->a);
    c->repaired = record_failed(c->a) && c->b && !record_failed(c->b);
    if (c->a && c->b)
        compare_times(set, sa, sb, options, c);
}

enum status comparison_make(const struct record_set *set, const struct comparison_side *a,
                            const struct comparison_side *b,
                            const struct comparison_options *options, struct comparison_list *list,
                            struct error *error)
{
    *list = (struct comparison_list){0};
    struct series_list series = {0};
    enum status status = series_build(set, NULL, NULL, &series, error);
    const struct record **records = calloc((size_t)(2 * set->count + 1), sizeof *records);
    list->rows = calloc((size_t)series.count + 1, sizeof *list->rows);
    if (status == STATUS_OK && (!list->rows || !records))
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the comparison");
    if (status != STATUS_OK)
        goto out;
    for (int64_t i = 0; i < series.count; i++) {
        struct selection sa = {.records = records}, sb = {.records = records + set->count};
        struct comparison *c = &list->rows[list->count];
        select_side(set, &series.series[i], a, options, &sa);
        select_side(set, &series.series[i], b, options, &sb);
        if (sa.count + sb.count == 0)
            continue;
        *c = (struct comparison){.key = series.series[i].key};
        compare_series(set, &sa, &sb, options, c);
        list->count++;
        if (c->timed && c->identical) {
            list->identical++;
            list->identical_worst = fmax(list->identical_worst, fabs(c->ratio.ratio - 1.0));
        }
    }
    if (options->noise < 0.0)
        raise_noise(list);
    status = find_apart(list, error);
out:
    if (status != STATUS_OK)
        comparison_release(list);
    free(records);
    series_release(&series);
    return status;
}

void comparison_release(struct comparison_list *list)
{
    free(list->rows);
    free(list->apart);
    *list = (struct comparison_list){0};
}

int64_t comparison_regressions(const struct comparison_list *list, double threshold)
{
    int64_t n = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const struct comparison *c = &list->rows[i];
        n += c->failure || (c->timed && c->change == CHANGE_SLOWER && !c->identical &&
                            c->ratio.ratio > 1.0 + threshold);
    }
    return n;
}

const struct record *comparison_newest(const struct comparison_list *list, bool second)
{
    const struct record *newest = NULL;
    for (int64_t i = 0; i < list->count; i++) {
        const struct record *r = second ? list->rows[i].b : list->rows[i].a;
        if (r && (!newest || series_compare_age(r, newest) > 0))
            newest = r;
    }
    return newest;
}

bool comparison_same_tree(const struct record *a, const struct record *b)
{
    return a->commit == b->commit && a->dirty == b->dirty;
}

double comparison_mean(const struct comparison_list *list, const char *machine, int64_t *count)
{
    double sum = 0.0;
    *count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const struct comparison *c = &list->rows[i];
        if (!c->timed || (machine && c->key.machine != machine))
            continue;
        sum += log(c->ratio.ratio);
        ++*count;
    }
    return *count > 0 ? exp(sum / (double)*count) : NAN;
}
