#include "harness/calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/clock.h"
#include "harness/interleave.h"
#include "harness/progress.h"

/* What is kept of one process: at most RATIO_SAMPLES medians of neighbouring samples. */
struct kept {
    double samples[RATIO_SAMPLES];
    int64_t count;
};

struct work {
    struct calibration result;
    struct kept *first, *second; /* of each pair */
    double *lows;                /* room for one value a pair */
};

static void work_release(struct work *w)
{
    free(w->first);
    free(w->second);
    free(w->lows);
    free(w->result.ratios);
    *w = (struct work){0};
}

static enum status work_init(struct work *w, int64_t pairs, struct error *error)
{
    *w = (struct work){0};
    w->first = calloc((size_t)pairs, sizeof *w->first);
    w->second = calloc((size_t)pairs, sizeof *w->second);
    w->lows = calloc((size_t)pairs, sizeof *w->lows);
    w->result.ratios = calloc((size_t)(3 * pairs), sizeof *w->result.ratios);
    if (w->first && w->second && w->lows && w->result.ratios)
        return STATUS_OK;
    work_release(w);
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for a calibration");
}

/* How far the interval's nearer end is from 1. */
static double distance(const struct ratio *r)
{
    return fmax(fmax(r->low, 1.0 / r->high) - 1.0, 0.0);
}

static void judge(struct calibration *c, const struct ratio *r)
{
    switch (change_decide(r, c->known_noise)) {
    case CHANGE_SLOWER:
        c->slower++;
        break;
    case CHANGE_FASTER:
        c->faster++;
        break;
    case CHANGE_UNDECIDED:
        c->undecided++;
        break;
    case CHANGE_SAME:
        c->same++;
        break;
    }
    c->slower_bare += r->low > 1.0;
}

static int64_t keep(const struct measurement *m, double *samples)
{
    return block_medians(m->samples_s, m->count, RATIO_SAMPLES, samples);
}

/* As the gate of bench does it, so that what is calibrated is what is used. */
static bool enough(void *context, const struct contender *c, size_t count)
{
    const double noise = *(const double *)context;
    double a[MEASUREMENT_SAMPLES], b[MEASUREMENT_SAMPLES];
    if (count != 2 || !c[0].trial.measured || !c[1].trial.measured)
        return true;
    const int64_t n = interleave_round_minima(&c[0].trial.measurement, a);
    interleave_round_minima(&c[1].trial.measurement, b);
    const struct ratio r = ratio_paired(a, b, n, COMPARISON_CONFIDENCE);
    return change_decide(&r, noise) != CHANGE_UNDECIDED;
}

/* One A/A comparison. The first contender's trial is left in *trial. */
static enum status one_pair(const struct run_list *list, const struct measurement_plan *plan,
                            int64_t rounds, const char *implementation, struct arena *arena,
                            struct work *w, int64_t pair, struct trial *trial, struct error *error)
{
    double a[MEASUREMENT_SAMPLES], b[MEASUREMENT_SAMPLES];
    struct contender *c = calloc(2, sizeof *c);
    if (!c)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    c[0].implementation = c[1].implementation = implementation;
    const struct interleaving how = {
        .rounds = rounds, .enough = enough, .context = &w->result.known_noise};
    enum status status = interleave(&list->options, plan, &how, NULL, arena, c, 2, error);
    *trial = c[0].trial;
    if (status == STATUS_OK && c[0].trial.measured && c[1].trial.measured) {
        const int64_t na = interleave_round_minima(&c[0].trial.measurement, a),
                      nb = interleave_round_minima(&c[1].trial.measurement, b);
        const struct ratio r = ratio_paired(a, b, na < nb ? na : nb, COMPARISON_CONFIDENCE);
        struct calibration *out = &w->result;
        w->first[pair].count = keep(&c[0].trial.measurement, w->first[pair].samples);
        w->second[pair].count = keep(&c[1].trial.measurement, w->second[pair].samples);
        out->ratios[3 * pair] = r.ratio;
        out->ratios[3 * pair + 1] = r.low;
        out->ratios[3 * pair + 2] = r.high;
        out->interleaved_noise = fmax(out->interleaved_noise, distance(&r));
        out->rounds += na;
        out->pairs++;
        judge(out, &r);
    } else if (status == STATUS_OK) {
        trial->measured = false;
        if (c[0].trial.measured) /* it is the second that went wrong */
            *trial = c[1].trial;
    }
    free(c);
    return status;
}

static double visible(double noise, double *lows, int64_t n)
{
    return (1.0 + noise) / quantile(lows, n, 0.05) - 1.0;
}

static void summarise(struct work *w)
{
    struct calibration *c = &w->result;
    c->rounds /= c->pairs;
    for (int64_t i = 0; i < c->pairs; i++)
        w->lows[i] = c->ratios[3 * i + 1];
    c->interleaved_noise = fmax(c->interleaved_noise, NOISE_LEAST);
    c->smallest_visible = visible(c->interleaved_noise, w->lows, c->pairs);
    /* Runs apart: each process with one of half the calibration's time later or earlier. */
    for (int64_t i = 0; i < c->pairs; i++) {
        const struct kept *a = &w->first[i], *b = &w->second[(i + c->pairs / 2) % c->pairs];
        const struct ratio r =
            ratio_unpaired(a->samples, a->count, b->samples, b->count, COMPARISON_CONFIDENCE);
        c->separate_noise = fmax(c->separate_noise, distance(&r));
        w->lows[i] = r.low;
    }
    c->separate_noise = fmax(c->separate_noise, NOISE_LEAST);
    c->smallest_visible_separate = visible(c->separate_noise, w->lows, c->pairs);
}

static json_t *to_json(const struct record_context *record, const struct case_source *source,
                       const struct trial *t, const struct calibration *c)
{
    json_t *o = record_begin(record, "calibration"), *ratios = json_array();
    json_object_set_new(o, "case", record_text(source->name));
    json_object_set_new(o, "problem", record_text(source->descriptor));
    json_object_set_new(o, "implementation", record_text(t->implementation));
    json_object_set_new(o, "threads", json_integer(t->measurement.threads));
    json_object_set_new(o, "device", record_text(t->measurement.device));
    json_object_set_new(o, "pairs", json_integer(c->pairs));
    json_object_set_new(o, "rounds", json_integer(c->rounds));
    json_object_set_new(o, "known_noise", record_number(c->known_noise));
    json_object_set_new(o, "false_slower", json_integer(c->slower));
    json_object_set_new(o, "false_faster", json_integer(c->faster));
    json_object_set_new(o, "undecided", json_integer(c->undecided));
    json_object_set_new(o, "slower_by_interval_alone", json_integer(c->slower_bare));
    json_object_set_new(o, "interleaved_noise", record_number(c->interleaved_noise));
    json_object_set_new(o, "separate_noise", record_number(c->separate_noise));
    json_object_set_new(o, "smallest_visible", record_number(c->smallest_visible));
    json_object_set_new(o, "smallest_visible_separate",
                        record_number(c->smallest_visible_separate));
    json_object_set_new(o, "seconds_per_comparison", record_number(c->seconds));
    for (int64_t i = 0; i < 3 * c->pairs; i++)
        json_array_append_new(ratios, record_number(c->ratios[i]));
    json_object_set_new(o, "ratios_low_high", ratios);
    return o;
}

static void print_text(const struct case_source *source, const struct trial *t,
                       const struct calibration *c)
{
    printf("%s on %s: %lld comparisons of identical code, %lld rounds each, %.2f s each\n",
           t->implementation, source->name, (long long)c->pairs, (long long)c->rounds, c->seconds);
    printf("  judged with a noise of %.2f %%: %lld SLOWER (%.1f %%), %lld FASTER, %lld UNDECIDED, "
           "%lld SAME; by the intervals alone %lld SLOWER\n",
           100.0 * c->known_noise, (long long)c->slower,
           100.0 * (double)c->slower / (double)c->pairs, (long long)c->faster,
           (long long)c->undecided, (long long)c->same, (long long)c->slower_bare);
    printf(
        "  interleaved: noise %.2f %%, smallest slowdown found in 95 %% of comparisons %.2f %%\n",
        100.0 * c->interleaved_noise, 100.0 * c->smallest_visible);
    printf(
        "  runs apart:  noise %.2f %%, smallest slowdown found in 95 %% of comparisons %.2f %%\n",
        100.0 * c->separate_noise, 100.0 * c->smallest_visible_separate);
    fflush(stdout);
}

static enum status calibrate_one(const struct record_context *record,
                                 const struct measurement_plan *plan, int64_t rounds, int64_t pairs,
                                 double known_noise, const struct case_source *source,
                                 struct arena *arena, const char *implementation, const char *path,
                                 bool json, struct error *error)
{
    struct work w;
    struct trial *trial = malloc(sizeof *trial);
    struct progress progress;
    enum status status = work_init(&w, pairs, error);
    if (!trial)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
    w.result.known_noise = known_noise;
    const double start = clock_seconds();
    progress_begin(&progress, implementation, "comparisons", pairs);
    for (int64_t i = 0; i < pairs && status == STATUS_OK; i++) {
        status = one_pair(record->list, plan, rounds, implementation, arena, &w, i, trial, error);
        progress_step(&progress, 1);
        if (status == STATUS_OK && !trial->measured) {
            if (trial->verdict != VERDICT_SKIPPED)
                status = error_set(error, STATUS_FAILED, "'%.100s' cannot be calibrated: %s",
                                   implementation, trial->reason);
            break;
        }
    }
    progress_end(&progress);
    if (status == STATUS_OK && w.result.pairs == pairs) {
        w.result.seconds = (clock_seconds() - start) / (double)pairs;
        summarise(&w);
        json_t *o = to_json(record, source, trial, &w.result);
        if (json)
            record_print(o);
        else
            print_text(source, trial, &w.result);
        if (path)
            status = record_append(path, o, error);
        json_decref(o);
    }
    free(trial);
    work_release(&w);
    return status;
}

/* Opens and fills a case; the caller releases both whatever the status. */
static enum status open_case(const struct run_list *list, const struct suite_entry *entry,
                             struct case_source *source, struct arena *arena, struct error *error)
{
    const struct fill *fill = list->fill;
    enum status status = entry->fill[0] ? fill_find(entry->fill, &fill, error) : STATUS_OK;
    if (status == STATUS_OK)
        status = case_source_open(source, entry->text, fill,
                                  entry->has_seed ? entry->seed : list->arguments.seed, error);
    if (status == STATUS_OK)
        status = arena_create(arena, &source->problem, error);
    return status == STATUS_OK ? case_source_load(source, arena, error) : status;
}

enum status calibrate(const struct record_context *record, const struct measurement_plan *plan,
                      int64_t rounds, int64_t pairs, struct record_set *known, const char *path,
                      bool json, struct error *error)
{
    const struct run_list *list = record->list;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->cases.count && status == STATUS_OK; i++) {
        struct case_source source = {0};
        struct arena arena = {.fd = -1};
        status = open_case(list, &list->cases.entries[i], &source, &arena, error);
        for (size_t k = 0; k < list->implementation_count && status == STATUS_OK; k++) {
            const char *name = list->implementations[k], *machine = record->machine.id;
            const struct series_key key = {
                .machine = text_pool_add(&known->texts, machine, strlen(machine)),
                .implementation = text_pool_add(&known->texts, name, strlen(name))};
            status = calibrate_one(record, plan, rounds, pairs, comparison_noise(known, &key, true),
                                   &source, &arena, name, path, json, error);
        }
        arena_release(&arena);
        case_source_release(&source);
    }
    return status;
}
