#include "harness/comparator.h"

#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/mismatch.h"
#include "ref/oracle.h"

/* Stages whose removal the data must show. */
enum sense { SENSE_CONVOLUTION, SENSE_SOFTMAX, SENSES };

/* What one thread has found. */
struct finding {
    int64_t compared, above_typical, above_worst, unwritten;
    double max_abs_error, max_ratio;
    double moved[SENSES];
    bool has_worst;
    struct element worst;
    int alive; /* narrowest class still consistent; CLASS_COUNT: none */
    struct mismatch_map map;
    float *got;                    /* [pitch] one channel of a strip */
    double *typical, *worst_bound; /* [pitch] */
    double *other_typical;         /* [pitch] the same for the class `alive` */
    double *spread[2][BOUND_TIERS], *largest[2][BOUND_TIERS]; /* claimed, alive */
    void *block;
};

struct comparator {
    struct problem problem;
    struct tolerance tolerance;
    enum arithmetic_class cls;
    uint32_t poison;
    struct oracle *oracle;
    struct bound bounds[CLASS_COUNT];
    int threads;
    struct finding *findings;
    const float *got; /* image `first` of the batch being compared */
    int64_t first;
    int64_t sensed;          /* the image whose sensitivity is taken; -1: the next one */
    double *without[SENSES]; /* [channels] y of every pixel when the stage is left out */
};

enum status tolerance_parse(const char *text, struct tolerance *tolerance, struct error *error)
{
    *tolerance = (struct tolerance){.rule = TOLERANCE_DERIVED};
    if (strcmp(text, "derived") == 0)
        return STATUS_OK;
    char *end;
    tolerance->rule = TOLERANCE_FIXED;
    tolerance->atol = strtod(text, &end);
    if (end != text && *end == ',') {
        const char *second = end + 1;
        tolerance->rtol = strtod(second, &end);
        if (end != second && *end == 0 && tolerance->atol >= 0.0 && tolerance->rtol >= 0.0 &&
            isfinite(tolerance->atol) && isfinite(tolerance->rtol))
            return STATUS_OK;
    }
    return error_set(error, STATUS_BAD_INPUT,
                     "tolerance '%.40s' is neither 'derived' nor 'ATOL,RTOL', e.g. '1e-4,1e-4'",
                     text);
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {
        [VERDICT_PASS] = "pass",       [VERDICT_MARGINAL] = "marginal",
        [VERDICT_FAIL] = "fail",       [VERDICT_CRASHED] = "crashed",
        [VERDICT_TIMEOUT] = "timeout", [VERDICT_SKIPPED] = "skipped"};
    return names[verdict];
}

double tensor_max_magnitude(const float *values, int64_t n)
{
    float largest = 0.0f;
#pragma omp parallel for simd schedule(static) reduction(max : largest)
    for (int64_t i = 0; i < n; i++) {
        const float magnitude = fabsf(values[i]);
        const float finite = magnitude < INFINITY ? magnitude : 0.0f;
        largest = finite > largest ? finite : largest;
    }
    return (double)largest;
}

void comparator_free(struct comparator *c)
{
    if (!c)
        return;
    for (int t = 0; c->findings && t < c->threads; t++) {
        mismatch_map_release(&c->findings[t].map);
        free(c->findings[t].block);
    }
    free(c->findings);
    for (int i = 0; i < SENSES; i++)
        free(c->without[i]);
    oracle_free(c->oracle);
    free(c);
}

static bool finding_init(struct finding *f, const struct problem *p, int64_t pitch)
{
    const size_t row = (size_t)pitch;
    f->block = aligned_alloc(64, (row * sizeof(double) * 12 + 63) / 64 * 64);
    if (!f->block || !mismatch_map_init(&f->map, p))
        return false;
    double *at = f->block;
    f->typical = at, at += row;
    f->worst_bound = at, at += row;
    f->other_typical = at, at += row;
    for (int i = 0; i < 2; i++)
        for (int tier = 0; tier < BOUND_TIERS; tier++) {
            f->spread[i][tier] = at, at += row;
            f->largest[i][tier] = at, at += row;
        }
    f->got = (float *)at;
    return true;
}

/* y without convolution: softmax of conv_bias; without softmax: 1 / channels. */
static bool senses_init(struct comparator *c, const struct params *params)
{
    const struct problem *p = &c->problem;
    double maximum = -INFINITY, sum = 0.0;
    c->sensed = -1;
    for (int i = 0; i < SENSES; i++)
        if (!(c->without[i] = malloc((size_t)p->out_channels * sizeof(double))))
            return false;
    for (int64_t ch = 0; ch < p->out_channels; ch++)
        maximum = fmax(maximum, p->has_conv_bias ? (double)params->conv_bias[ch] : 0.0);
    for (int64_t ch = 0; ch < p->out_channels; ch++)
        sum += exp((p->has_conv_bias ? (double)params->conv_bias[ch] : 0.0) - maximum);
    for (int64_t ch = 0; ch < p->out_channels; ch++) {
        const double z = p->has_conv_bias ? (double)params->conv_bias[ch] : 0.0;
        const double bias = (double)params->bias[p->bias_count == 1 ? 0 : ch];
        const double probability[SENSES] = {exp(z - maximum) / sum, 1.0 / (double)p->out_channels};
        for (int i = 0; i < SENSES; i++)
            c->without[i][ch] =
                1.0 / (1.0 + exp(-(double)p->scaling_factor * (probability[i] + bias)));
    }
    return true;
}

enum status comparator_create(struct comparator **comparator, const struct problem *problem,
                              const struct params *params, enum arithmetic_class cls,
                              const struct tolerance *tolerance, double max_x, uint32_t poison,
                              struct error *error)
{
    *comparator = NULL;
    struct comparator *c = calloc(1, sizeof *c);
    if (!c)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    c->problem = *problem;
    c->tolerance = *tolerance;
    c->cls = cls;
    c->poison = poison;
    const double max_weight = tensor_max_magnitude(params->weight, problem_weight_count(problem));
    for (int i = 0; i < CLASS_COUNT; i++)
        bound_init(&c->bounds[i], (enum arithmetic_class)i, problem, max_x, max_weight);
    enum status status = senses_init(c, params)
                             ? oracle_create(&c->oracle, problem, params, error)
                             : error_set(error, STATUS_ENVIRONMENT, "out of memory");
    if (status != STATUS_OK) {
        comparator_free(c);
        return status;
    }
    c->threads = omp_get_max_threads();
    c->findings = calloc((size_t)c->threads, sizeof *c->findings);
    for (int t = 0; t < c->threads; t++)
        if (!c->findings || !finding_init(&c->findings[t], problem, oracle_pitch(c->oracle))) {
            comparator_free(c);
            return error_set(error, STATUS_ENVIRONMENT, "out of memory for the comparator");
        }
    *comparator = c;
    return STATUS_OK;
}

/* Keeps the worse of two elements; of equals the one that comes first, so that threads don't
 * matter. */
static void keep_worst(struct finding *f, double ratio, const struct element *e)
{
    bool replace = !f->has_worst || ratio > f->max_ratio;
    if (f->has_worst && ratio == f->max_ratio) {
        const int64_t a[] = {e->n, e->c, e->h, e->w};
        const int64_t b[] = {f->worst.n, f->worst.c, f->worst.h, f->worst.w};
        for (int i = 0; i < 4; i++)
            if (a[i] != b[i]) {
                replace = a[i] < b[i];
                break;
            }
    }
    if (replace) {
        f->has_worst = true;
        f->max_ratio = ratio;
        f->worst = *e;
    }
}

static struct element element_at(const struct oracle_strip *s, int64_t c, int64_t row, int64_t j)
{
    return (struct element){
        .n = s->image, .c = c, .h = s->oh + row * s->step_h, .w = s->ow + j * s->step_w};
}

/* Looks at every element of a row that holds one outside its bound, or unwritten ones. */
static void examine_row(struct finding *f, const struct comparator *c, const struct oracle_strip *s,
                        int64_t channel, int64_t row, const double *expected, const double *typical,
                        const double *worst, int64_t unwritten)
{
    f->unwritten += unwritten;
    for (int64_t j = 0; j < s->columns; j++) {
        uint32_t bits;
        memcpy(&bits, &f->got[j], sizeof bits);
        const double got = (double)f->got[j], y = expected[j], error = fabs(got - y);
        const bool poisoned = bits == c->poison;
        const bool nan_wrong = isnan(y) ? !isnan(got) : isnan(got) && !(typical[j] == INFINITY);
        if (!poisoned && !nan_wrong && (isnan(y) || error <= typical[j] || typical[j] == INFINITY))
            continue;
        const bool beyond = poisoned || nan_wrong || !(error <= worst[j]);
        f->above_typical++;
        f->above_worst += beyond;
        if (poisoned || nan_wrong)
            f->max_abs_error = INFINITY;
        struct element e = element_at(s, channel, row, j);
        e.expected = y, e.got = got, e.typical = typical[j], e.worst = worst[j];
        keep_worst(f, poisoned || nan_wrong ? INFINITY : error / typical[j], &e);
        mismatch_map_add(&f->map, &e);
    }
}

/* Bounds of the row's elements by the rule asked for. */
static void fixed_bounds(const struct tolerance *t, const double *expected, int64_t n,
                         double *bound)
{
    for (int64_t j = 0; j < n; j++)
        bound[j] = t->atol + t->rtol * fabs(expected[j]);
}

/* Widens the narrowest class of this thread until the row lies within its typical bound. `claimed`:
 * the row's comparison under the class claimed, NULL where another rule was applied. */
static void narrow_class(struct finding *f, const struct comparator *c,
                         const struct strip_kernels *k, const struct oracle_strip *s,
                         int64_t channel, int64_t offset, const double *expected,
                         const struct comparison *claimed, int *prepared)
{
    const struct oracle_arrays *a = s->arrays;
    while (f->alive < CLASS_COUNT) {
        const struct bound *bound = &c->bounds[f->alive];
        if (claimed && f->alive == (int)c->cls && claimed->above_typical == 0)
            return;
        const struct bound_pixels pixels = {{f->spread[1][0], NULL}, {f->largest[1][0], NULL}};
        if (*prepared != f->alive) {
            k->bound_pixels(bound, oracle_epilogue(c->oracle), a, &pixels);
            *prepared = f->alive;
        }
        struct comparison comparison;
        k->bound_row(bound, oracle_epilogue(c->oracle), a, &pixels, channel, f->other_typical,
                     NULL);
        k->compare_row(f->got, expected, f->other_typical + offset, NULL, s->columns, INFINITY,
                       INFINITY, &comparison);
        if (comparison.above_typical == 0)
            return;
        f->alive++;
    }
}

static void sense_row(struct finding *f, const struct comparator *c, int64_t channel,
                      const double *expected, const double *typical, int64_t n)
{
    for (int i = 0; i < SENSES; i++) {
        const double without = c->without[i][channel];
        for (int64_t j = 0; j < n; j++) {
            const double moved = fabs(expected[j] - without) / typical[j];
            f->moved[i] = moved > f->moved[i] ? moved : f->moved[i];
        }
    }
}

/* Rows of y that are next to each other in a strip lie far apart in memory. */
#define CHANNELS_AHEAD 4
static void prefetch(const float *row, int64_t n)
{
    for (int64_t j = 0; j < n; j += 16)
        __builtin_prefetch(row + j);
}

static bool visit(void *context, int thread, const struct oracle_strip *s)
{
    const struct comparator *c = context;
    struct finding *f = &c->findings[thread];
    const struct strip_kernels *k = strip_kernels_get();
    const struct oracle_arrays *a = s->arrays;
    const int64_t out_h = problem_output_h(&c->problem), out_w = problem_output_w(&c->problem);
    const float *image = c->got + (s->image - c->first) * problem_output_image(&c->problem);
    /* The worst case is looked at where an element is beyond the typical bound, or a record. */
    const struct bound_pixels typical_only = {{f->spread[0][0], NULL}, {f->largest[0][0], NULL}};
    const struct bound_pixels worst_only = {{NULL, f->spread[0][1]}, {NULL, f->largest[0][1]}};
    bool worst_pixels = false;
    const bool derived = c->tolerance.rule == TOLERANCE_DERIVED;
    int prepared = -1;
    if (derived)
        k->bound_pixels(&c->bounds[c->cls], oracle_epilogue(c->oracle), a, &typical_only);
    for (int64_t channel = 0; channel < a->channels; channel++) {
        bool worst_row = !derived;
        if (derived)
            k->bound_row(&c->bounds[c->cls], oracle_epilogue(c->oracle), a, &typical_only, channel,
                         f->typical, NULL);
        for (int64_t row = 0; row < s->rows; row++) {
            const int64_t offset = s->first_position + row * s->pitch_columns;
            const double *expected = a->expected + channel * a->pitch + offset;
            const double *typical = f->typical + offset, *worst = f->worst_bound + offset;
            const float *from = image + (channel * out_h + s->oh + row * s->step_h) * out_w + s->ow;
            prefetch(from + CHANNELS_AHEAD * out_h * out_w, s->columns * s->step_w);
            const int64_t unwritten = k->gather_row(from, s->step_w, s->columns, c->poison, f->got);
            if (!derived) {
                fixed_bounds(&c->tolerance, expected, s->columns, f->typical + offset);
                worst = typical;
            }
            if (s->image == c->sensed)
                sense_row(f, c, channel, expected, typical, s->columns);
            struct comparison r;
            k->compare_row(f->got, expected, typical, NULL, s->columns, f->max_ratio,
                           f->max_abs_error, &r);
            if (!worst_row && (r.above_typical > 0 || r.max_ratio_at >= 0 || unwritten > 0)) {
                if (!worst_pixels)
                    k->bound_pixels(&c->bounds[c->cls], oracle_epilogue(c->oracle), a, &worst_only);
                k->bound_row(&c->bounds[c->cls], oracle_epilogue(c->oracle), a, &worst_only,
                             channel, NULL, f->worst_bound);
                worst_pixels = worst_row = true;
            }
            f->compared += s->columns;
            if (r.max_abs_at >= 0)
                f->max_abs_error = r.max_abs_error;
            if (r.max_ratio_at >= 0 && r.above_typical == 0 && unwritten == 0) {
                struct element e = element_at(s, channel, row, r.max_ratio_at);
                e.expected = expected[r.max_ratio_at];
                e.got = (double)f->got[r.max_ratio_at];
                e.typical = typical[r.max_ratio_at];
                e.worst = worst[r.max_ratio_at];
                keep_worst(f, r.max_ratio, &e);
            }
            if (r.above_typical > 0 || unwritten > 0)
                examine_row(f, c, s, channel, row, expected, typical, worst, unwritten);
            narrow_class(f, c, k, s, channel, offset, expected, derived ? &r : NULL, &prepared);
        }
    }
    return true;
}

enum status comparator_images(struct comparator *c, int64_t first, int64_t count, const float *x,
                              const float *got, struct error *error)
{
    c->got = got;
    c->first = first;
    if (c->sensed < 0)
        c->sensed = first;
    return oracle_run(c->oracle, x, first, count, visit, c, error);
}

void comparator_report(const struct comparator *c, struct comparison_report *report)
{
    *report = (struct comparison_report){0};
    struct finding total = {0};
    struct mismatch_map map = {0};
    for (int t = 0; t < c->threads; t++) {
        const struct finding *f = &c->findings[t];
        report->compared += f->compared;
        report->above_typical += f->above_typical;
        report->above_worst += f->above_worst;
        report->unwritten += f->unwritten;
        report->max_abs_error = fmax(report->max_abs_error, f->max_abs_error);
        report->without_convolution =
            fmax(report->without_convolution, f->moved[SENSE_CONVOLUTION]);
        report->without_softmax = fmax(report->without_softmax, f->moved[SENSE_SOFTMAX]);
        if (f->has_worst)
            keep_worst(&total, f->max_ratio, &f->worst);
        if (f->alive > total.alive)
            total.alive = f->alive;
    }
    report->has_worst = total.has_worst;
    report->worst = total.worst;
    report->error_over_bound = total.max_ratio;
    report->has_narrowest = total.alive < CLASS_COUNT;
    report->narrowest =
        report->has_narrowest ? (enum arithmetic_class)total.alive : (enum arithmetic_class)0;
    report->verdict = report->above_worst > 0     ? VERDICT_FAIL
                      : report->above_typical > 0 ? VERDICT_MARGINAL
                                                  : VERDICT_PASS;
    if (report->above_typical > 0 && mismatch_map_init(&map, &c->problem)) {
        for (int t = 0; t < c->threads; t++)
            mismatch_map_merge(&map, &c->findings[t].map);
        mismatch_map_describe(&map, report->compared, report->where, sizeof report->where);
    }
    mismatch_map_release(&map);
}
