#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/mutants.h"
#include "ref/oracle.h"

struct mutant_engine {
    struct problem problem;
    struct params params;
    struct oracle *oracle; /* of the true parameters */
    int64_t image;         /* whose truth is held; -1: none */
    const float *source;   /* and the batch that it is of */
    double *honest, *z, *y64;
    float *truth;
    struct mutant_tensors copy;
};

void mutant_engine_free(struct mutant_engine *e)
{
    if (!e)
        return;
    oracle_free(e->oracle);
    free(e->honest);
    free(e->z);
    free(e->y64);
    free(e->truth);
    free(e->copy.x);
    free(e->copy.weight);
    free(e->copy.conv_bias);
    free(e->copy.bias);
    free(e);
}

enum status mutant_engine_create(struct mutant_engine **engine, const struct problem *p,
                                 const struct params *params, struct error *error)
{
    struct mutant_engine *e = calloc(1, sizeof *e);
    *engine = e;
    if (!e)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const size_t out = (size_t)problem_output_image(p);
    e->problem = *p;
    e->params = *params;
    e->image = -1;
    e->honest = malloc(out * sizeof *e->honest);
    e->z = malloc(out * sizeof *e->z);
    e->y64 = malloc(out * sizeof *e->y64);
    e->truth = malloc(out * sizeof *e->truth);
    e->copy.problem = &e->problem;
    e->copy.x = malloc((size_t)problem_input_image(p) * sizeof(float));
    e->copy.weight = malloc((size_t)problem_weight_count(p) * sizeof(float));
    e->copy.conv_bias = malloc((size_t)p->out_channels * sizeof(float));
    e->copy.bias = malloc((size_t)p->bias_count * sizeof(float));
    enum status status = STATUS_OK;
    if (!e->honest || !e->z || !e->y64 || !e->truth || !e->copy.x || !e->copy.weight ||
        !e->copy.conv_bias || !e->copy.bias)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for a mutant of one image");
    if (status == STATUS_OK)
        status = oracle_create(&e->oracle, p, params, error);
    if (status != STATUS_OK) {
        mutant_engine_free(e);
        *engine = NULL;
    }
    return status;
}

const float *mutant_truth(const struct mutant_engine *e)
{
    return e->truth;
}

/* ---- logits -----------------------------------------------------------------------------------
 */

struct logits_visit {
    const struct problem *problem;
    double *z;
};

static bool store_logits(void *context, int thread, const struct oracle_strip *s)
{
    (void)thread;
    const struct logits_visit *v = context;
    const struct oracle_arrays *a = s->arrays;
    const int64_t out_w = problem_output_w(v->problem);
    const int64_t pixels = problem_output_h(v->problem) * out_w;
    for (int64_t c = 0; c < a->channels; c++)
        for (int64_t i = 0; i < s->rows; i++) {
            const double *from = a->logit + c * a->pitch + s->first_position + i * s->pitch_columns;
            double *to = v->z + c * pixels + (s->oh + i * s->step_h) * out_w + s->ow;
            for (int64_t j = 0; j < s->columns; j++)
                to[j * s->step_w] = from[j];
        }
    return true;
}

static enum status compute_logits(struct oracle *oracle, const struct problem *p, const float *x,
                                  double *z, struct error *error)
{
    struct logits_visit v = {p, z};
    return oracle_run(oracle, x, 0, 1, store_logits, &v, error);
}

/* ---- epilogue ---------------------------------------------------------------------------------
 */

static double true_sigmoid(double t)
{
    return 1.0 / (1.0 + exp(-t));
}

/* p[i] = exp(z[i] - max) / sum over n elements `step` apart, and `extra` logits of 0. */
static void softmax(const struct epilogue_form *f, const double *z, double *p, int64_t n,
                    int64_t step, int64_t extra)
{
    double maximum = extra > 0 ? 0.0 : -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        maximum = z[i * step] > maximum ? z[i * step] : maximum;
    if (f->keep_maximum)
        maximum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double t = z[i * step] - maximum;
        p[i * step] = f->exp ? f->exp(t) : exp(t);
        if (f->keep_maximum && p[i * step] > 0x1.fffffep127)
            p[i * step] = INFINITY;
        sum += p[i * step];
    }
    sum += (double)extra * (f->exp ? f->exp(-maximum) : exp(-maximum));
    for (int64_t i = 0; i < n; i++)
        p[i * step] /= sum;
}

/* Softmax over one axis of [channels][rows][columns]; p may not be z. */
static void normalise(const struct epilogue_form *f, const struct problem *p, const double *z,
                      double *out)
{
    const int64_t rows = problem_output_h(p), columns = problem_output_w(p),
                  pixels = rows * columns;
    const int64_t channels = p->out_channels;
    const int64_t block = f->block > 0 ? f->block : channels;
    const int64_t padded =
        f->padded_to > 0 ? (channels + f->padded_to - 1) / f->padded_to * f->padded_to : channels;
#pragma omp parallel
    {
        if (f->axis == SOFTMAX_CHANNELS) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < pixels; i++)
                for (int64_t c = 0; c < channels; c += block) {
                    const int64_t n = channels - c < block ? channels - c : block;
                    softmax(f, z + c * pixels + i, out + c * pixels + i, n, pixels,
                            padded - channels);
                }
        } else {
#pragma omp for schedule(static)
            for (int64_t c = 0; c < channels; c++) {
                const double *from = z + c * pixels;
                double *to = out + c * pixels;
                if (f->axis == SOFTMAX_NONE)
                    for (int64_t i = 0; i < pixels; i++)
                        to[i] = 1.0 / (double)channels;
                else if (f->axis == SOFTMAX_ROWS)
                    for (int64_t i = 0; i < columns; i++)
                        softmax(f, from + i, to + i, rows, columns, 0);
                else
                    for (int64_t i = 0; i < rows; i++)
                        softmax(f, from + i * columns, to + i * columns, columns, 1, 0);
            }
        }
    }
}

/* z [channels][pixels] -> y; z is overwritten where the bias goes first. */
static void apply_epilogue(const struct epilogue_form *f, const struct problem *p,
                           const float *bias, double *z, double *scratch, float *y)
{
    const int64_t pixels = problem_output_h(p) * problem_output_w(p);
    const double scale = f->no_scale ? 1.0 : (double)p->scaling_factor;
    double (*const sigmoid)(double) = f->sigmoid ? f->sigmoid : true_sigmoid;
    for (int64_t c = 0; f->bias_first && c < p->out_channels; c++)
        for (int64_t i = 0; i < pixels; i++)
            z[c * pixels + i] += (double)bias[p->bias_count == 1 ? 0 : c];
    normalise(f, p, z, scratch);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < p->out_channels; c++) {
        const double b =
            f->no_bias || f->bias_first ? 0.0 : (double)bias[p->bias_count == 1 ? 0 : c];
        for (int64_t i = 0; i < pixels; i++) {
            const double q = scratch[c * pixels + i];
            const double t = f->scale_first ? scale * q + b : scale * (q + b);
            y[c * pixels + i] = (float)sigmoid(t);
        }
    }
}

/* ---- one image --------------------------------------------------------------------------------
 */

/* The truth of image n, kept for the mutants that follow. */
static enum status find_truth(struct mutant_engine *e, const float *x, int64_t n,
                              struct error *error)
{
    const struct problem *p = &e->problem;
    if (e->image == n && e->source == x)
        return STATUS_OK;
    const enum status status =
        compute_logits(e->oracle, p, x + n * problem_input_image(p), e->honest, error);
    if (status != STATUS_OK)
        return status;
    memcpy(e->z, e->honest, (size_t)problem_output_image(p) * sizeof *e->z);
    apply_epilogue(&(struct epilogue_form){0}, p, e->params.bias, e->z, e->y64, e->truth);
    e->image = n;
    e->source = x;
    return STATUS_OK;
}

static void copy_tensors(struct mutant_engine *e, const struct mutant *m, const float *x, int64_t n)
{
    const struct problem *p = &e->problem;
    const int64_t image = problem_input_image(p), count = problem_input_count(p);
    const int64_t from = m->image ? m->image(p, n) : n;
    for (int64_t i = 0; i < image; i++) {
        const int64_t at = from * image + i, read = m->index ? m->index(at) : at;
        e->copy.x[i] = read >= 0 && read < count ? x[read] : 0.0f;
    }
    memcpy(e->copy.weight, e->params.weight, (size_t)problem_weight_count(p) * sizeof(float));
    memcpy(e->copy.bias, e->params.bias, (size_t)p->bias_count * sizeof(float));
    if (p->has_conv_bias)
        memcpy(e->copy.conv_bias, e->params.conv_bias, (size_t)p->out_channels * sizeof(float));
    if (m->tensors)
        m->tensors(&e->copy);
}

static void keep_truth_elsewhere(const struct mutant_view *v, const struct mutant *m, float *y)
{
    const int64_t rows = problem_output_h(v->problem), columns = problem_output_w(v->problem);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < v->problem->out_channels; c++)
        for (int64_t h = 0; h < rows; h++)
            for (int64_t w = 0; w < columns; w++)
                if (!m->where(v, c, h, w)) {
                    const int64_t at = (c * rows + h) * columns + w;
                    y[at] = v->truth[at];
                }
}

enum status mutant_run(struct mutant_engine *e, const struct mutant *m, const float *x, int64_t n,
                       float *y, struct error *error)
{
    const struct problem *p = &e->problem;
    enum status status = find_truth(e, x, n, error);
    if (status != STATUS_OK)
        return status;
    copy_tensors(e, m, x, n);
    struct params params = {.weight = e->copy.weight,
                            .conv_bias = p->has_conv_bias ? e->copy.conv_bias : NULL,
                            .bias = e->copy.bias};
    if (m->tensors) {
        struct oracle *oracle;
        status = oracle_create(&oracle, p, &params, error);
        if (status == STATUS_OK)
            status = compute_logits(oracle, p, e->copy.x, e->z, error);
        oracle_free(oracle);
    } else if (m->image || m->index) {
        status = compute_logits(e->oracle, p, e->copy.x, e->z, error);
    } else {
        memcpy(e->z, e->honest, (size_t)problem_output_image(p) * sizeof *e->z);
    }
    if (status != STATUS_OK)
        return status;
    const struct mutant_view view = {.problem = p,
                                     .image = n,
                                     .pixels = problem_output_h(p) * problem_output_w(p),
                                     .x = e->copy.x,
                                     .weight = params.weight,
                                     .conv_bias = params.conv_bias,
                                     .honest = e->honest,
                                     .truth = e->truth};
    if (m->logits)
        m->logits(&view, e->z);
    apply_epilogue(&m->form, p, params.bias, e->z, e->y64, y);
    if (m->finish)
        m->finish(&view, y);
    if (m->where)
        keep_truth_elsewhere(&view, m, y);
    return STATUS_OK;
}
