#include "harness/bench_gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/interleave.h"

enum status bench_gate_init(struct bench_gate *g, const struct record_context *record,
                            const char *records, struct error *error)
{
    struct stat info;
    g->record = record;
    return stat(records, &info) == 0 ? record_set_read(&g->known, records, error) : STATUS_OK;
}

void bench_gate_release(struct bench_gate *g)
{
    record_set_release(&g->known);
}

static const char *pooled(struct bench_gate *g, const char *text)
{
    return text_pool_add(&g->known.texts, text, strlen(text));
}

static void print_json(const struct bench_gate *g, const struct case_source *source,
                       const struct trial *t, const struct ratio *r, double noise,
                       enum change change)
{
    json_t *o = json_object();
    json_object_set_new(o, "kind", json_string("comparison"));
    json_object_set_new(o, "machine", record_text(g->record->machine.id));
    json_object_set_new(o, "problem", record_text(source->descriptor));
    json_object_set_new(o, "implementation", record_text(t->implementation));
    json_object_set_new(o, "against", record_text(g->baseline ? g->baseline : g->base.binary));
    json_object_set_new(o, "ratio", record_number(r->ratio));
    json_object_set_new(o, "ratio_low", record_number(r->low));
    json_object_set_new(o, "ratio_high", record_number(r->high));
    json_object_set_new(o, "rounds", json_integer(t->measurement.rounds));
    json_object_set_new(o, "noise", record_number(noise));
    json_object_set_new(o, "change", json_string(change_name(change)));
    record_print(o);
    json_decref(o);
}

/* True where there is something to compare; *noise is what identical code may differ by. */
static bool compare_trials(struct bench_gate *g, const struct trial *base, const struct trial *t,
                           struct ratio *r, double *noise)
{
    double a[MEASUREMENT_SAMPLES], b[MEASUREMENT_SAMPLES];
    const int64_t na = interleave_round_minima(&base->measurement, a),
                  nb = interleave_round_minima(&t->measurement, b);
    if (!base->measured || !t->measured || na == 0 || nb == 0)
        return false;
    const struct series_key key = {.machine = pooled(g, g->record->machine.id),
                                   .implementation = pooled(g, t->implementation)};
    *r = ratio_paired(a, b, na < nb ? na : nb, COMPARISON_CONFIDENCE);
    *noise = comparison_noise(&g->known, &key, true);
    return true;
}

bool bench_gate_enough(void *context, const struct contender *c, size_t count)
{
    struct bench_gate *g = context;
    for (size_t i = 1; i < count; i++) {
        const struct trial *base = &c[g->baseline ? 0 : i - 1].trial;
        struct ratio r;
        double noise;
        if (!g->baseline && c[i].binary == g->against)
            continue;
        if (compare_trials(g, base, &c[i].trial, &r, &noise) &&
            change_decide(&r, noise) == CHANGE_UNDECIDED)
            return false;
    }
    return true;
}

static void compare(struct bench_gate *g, const struct case_source *source, const struct trial *t)
{
    struct ratio r;
    double noise;
    if (!compare_trials(g, &g->base, t, &r, &noise))
        return;
    const enum change change = change_decide(&r, noise);
    g->compared++;
    g->log_sum += log(r.ratio);
    g->undecided += change == CHANGE_UNDECIDED;
    g->slower += change == CHANGE_SLOWER && r.ratio > 1.0 + g->threshold;
    if (g->json)
        print_json(g, source, t, &r, noise, change);
    else
        printf("    %-9s %.4f (%.4f to %.4f) x %s, %lld rounds, noise %.2f %%\n",
               change_name(change), r.ratio, r.low, r.high,
               g->baseline ? g->baseline : g->base.binary, (long long)t->measurement.rounds,
               100.0 * noise);
}

void bench_gate_visit(struct bench_gate *g, const struct case_source *source, const struct trial *t)
{
    const bool is_base =
        g->baseline ? strcmp(t->implementation, g->baseline) == 0 : t->binary == g->against;
    if (is_base) {
        g->base = *t;
        snprintf(g->base_case, sizeof g->base_case, "%s", source->name);
    } else if (t->measured && g->base.measured && strcmp(g->base_case, source->name) == 0 &&
               (g->baseline || strcmp(g->base.implementation, t->implementation) == 0)) {
        compare(g, source, t);
    }
}

void bench_gate_finish(const struct bench_gate *g)
{
    if (!g->json && g->compared > 0)
        printf("%lld compared, %lld slower beyond %g %%, %lld undecided; geometric mean %.4f\n",
               (long long)g->compared, (long long)g->slower, 100.0 * g->threshold,
               (long long)g->undecided, exp(g->log_sum / (double)g->compared));
}
