#include "ref/fill.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <Random123/philox.h>

enum tensor { TENSOR_X, TENSOR_WEIGHT, TENSOR_CONV_BIAS, TENSOR_BIAS };

/* What the element functions need to know of the problem, computed once for a fill. */
struct context {
    const struct problem *problem;
    uint64_t seed;
    uint32_t fill_id;
    int64_t image; /* elements of one image of x */
    double terms;  /* products in a logit */
    float weight_scale;
    float bias_scale;
    double special_rate; /* non-finite elements of x: a quarter of the pixels see one */
};

struct fill_rules {
    uint32_t id; /* part of the generator's counter: must never change */
    /* NULL: an impulse in each image (impulse_index) */
    float (*x)(const struct context *c, int64_t index, const uint32_t r[4]);
    float (*weight)(const struct context *c, int64_t index, const uint32_t r[4]);
    float (*conv_bias)(const struct context *c, int64_t index, const uint32_t r[4]);
    float (*bias)(const struct context *c, int64_t index, const uint32_t r[4]);
    float (*weight_scale)(const struct context *c);
};

static void draw(const struct context *c, enum tensor tensor, int64_t index, uint32_t r[4])
{
    const philox4x32_ctr_t counter = {
        {(uint32_t)index, (uint32_t)((uint64_t)index >> 32), (uint32_t)tensor, c->fill_id}};
    const philox4x32_key_t key = {{(uint32_t)c->seed, (uint32_t)(c->seed >> 32)}};
    const philox4x32_ctr_t out = philox4x32(counter, key);
    memcpy(r, out.v, 4 * sizeof *r);
}

/* [0, 1), 24 bits, exact in fp32, as torch.rand draws. */
static float unit(uint32_t r)
{
    return (float)(r >> 8) * 0x1p-24f;
}

/* [-1, 1), exact in fp32. */
static float symmetric(uint32_t r)
{
    return (float)(r >> 8) * 0x1p-23f - 1.0f;
}

/* A whole number in [-range, range]. */
static float whole(uint32_t r, uint32_t range)
{
    return (float)((int64_t)(((uint64_t)r * (2 * range + 1)) >> 32) - (int64_t)range);
}

/* Box-Muller in double: one normal number from two words. */
static float normal(const uint32_t r[4])
{
    const double u = ((double)r[0] + 1.0) * 0x1p-32, v = (double)r[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v));
}

/* ---- kernelbench: what PyTorch's initialisation and torch.rand give ---------------------------
 */

static float rand_x(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return unit(r[0]);
}

/* Kaiming-uniform with a = sqrt(5): U(-1/sqrt(fan_in), 1/sqrt(fan_in)), where PyTorch takes fan_in
 * from the weight's second dimension: Cout/groups * kH * kW. */
static float kaiming_scale(const struct context *c)
{
    const struct problem *p = c->problem;
    const double fan_in =
        (double)(p->out_channels / p->groups) * (double)p->kernel_h * (double)p->kernel_w;
    return (float)(1.0 / sqrt(fan_in));
}

static float scaled_weight(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    return symmetric(r[0]) * c->weight_scale;
}

static float normal_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return normal(r);
}

/* ---- conditioned: data that can tell -----------------------------------------------------------
 */

static float symmetric_x(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return symmetric(r[0]);
}

/* x and W uniform, each of variance amplitude^2 / 3, so a logit of K products has standard
 * deviation weight_scale * sqrt(K) / 3. */
static float scale_for_deviation(const struct context *c, double deviation)
{
    return (float)(3.0 * deviation / sqrt(c->terms));
}

static float conditioned_scale(const struct context *c)
{
    return scale_for_deviation(c, 3.0);
}

static float conditioned_conv_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return 1.5f * symmetric(r[0]);
}

/* |scaling_factor * bias| < 2: the sigmoid is not saturated by the bias. */
static float conditioned_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    return c->bias_scale * symmetric(r[0]);
}

/* ---- exact: every logit is exact in fp32, tf32, fp16 and bf16, in any order ---------------------
 */

static float exact_x(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return whole(r[0], 2);
}

/* Standard deviation of a sum of K products of {-2..2} and {-1, 0, 1}: sqrt(K * 2 * 2/3); a power
 * of two brings it near 3 and keeps every product a small multiple of that power. */
static float exact_scale(const struct context *c)
{
    return (float)exp2(round(log2(3.0 / sqrt(c->terms * 4.0 / 3.0))));
}

static float exact_weight(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    return whole(r[0], 1) * c->weight_scale;
}

static float exact_conv_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    return whole(r[0], 4) * c->weight_scale;
}

static float exact_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return whole(r[0], 4) * 0.25f;
}

/* ---- impulse: one 1 in every image, else 0: each output shows which weight reached it
 * ------------ */

/* Where image n has its 1: the first four images in the corners, the others anywhere. */
static int64_t impulse_index(const struct context *c, int64_t n)
{
    const struct problem *p = c->problem;
    const int64_t pixels = p->height * p->width;
    uint32_t place[4];
    draw(c, TENSOR_X, n, place);
    const int64_t corners[4] = {0, pixels - 1, p->width - 1, pixels - p->width};
    const int64_t channel = (int64_t)(place[0] % (uint64_t)p->in_channels);
    const int64_t pixel =
        n < 4 ? corners[n] : (int64_t)((((uint64_t)place[1] << 32) | place[2]) % (uint64_t)pixels);
    return channel * pixels + pixel;
}

static float impulse_scale(const struct context *c)
{
    (void)c;
    return 4.0f; /* one product makes the whole logit */
}

/* ---- extreme: logits around +-1e4, where exp overflows unless the maximum is subtracted
 * ---------- */

static float extreme_scale(const struct context *c)
{
    return scale_for_deviation(c, 4.0e3);
}

static float extreme_conv_bias(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)c, (void)i;
    return 1.0e4f * symmetric(r[0]);
}

/* ---- special: NaN and infinities in x, -0 and subnormals in x and W
 * ------------------------------ */

static float subnormal(uint32_t r)
{
    const uint32_t bits = (r & 0x80000000u) | ((r & 0x7fffffu) | 1u);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float special_x(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    if ((double)r[1] * 0x1p-32 < c->special_rate)
        return r[2] % 3 == 0 ? NAN : r[2] % 3 == 1 ? INFINITY : -INFINITY;
    if (r[3] % 20 == 0)
        return -0.0f;
    if (r[3] % 20 == 1)
        return subnormal(r[0]);
    return symmetric(r[0]);
}

static float special_weight(const struct context *c, int64_t i, const uint32_t r[4])
{
    (void)i;
    if (r[3] % 20 == 0)
        return -0.0f;
    if (r[3] % 20 == 1)
        return subnormal(r[0]);
    return symmetric(r[0]) * c->weight_scale;
}

/* ---- the table
 * ----------------------------------------------------------------------------------- */

static const struct fill_rules kernelbench = {
    1, rand_x, scaled_weight, scaled_weight, normal_bias, kaiming_scale};
static const struct fill_rules conditioned = {
    2, symmetric_x, scaled_weight, conditioned_conv_bias, conditioned_bias, conditioned_scale};
static const struct fill_rules exact = {3,          exact_x,    exact_weight, exact_conv_bias,
                                        exact_bias, exact_scale};
static const struct fill_rules impulse = {
    4, NULL, scaled_weight, conditioned_conv_bias, conditioned_bias, impulse_scale};
static const struct fill_rules extreme = {
    5, symmetric_x, scaled_weight, extreme_conv_bias, conditioned_bias, extreme_scale};
static const struct fill_rules special = {
    6, special_x, special_weight, conditioned_conv_bias, conditioned_bias, conditioned_scale};

const struct fill fill_table[] = {
    {"conditioned", "logits spread over several units, sigmoid not saturated (verification)", true,
     &conditioned},
    {"kernelbench", "as PyTorch initialises, x = rand, bias = randn (timing parity)", true,
     &kernelbench},
    {"exact", "small whole numbers: logits exact in any order and class", true, &exact},
    {"impulse", "one 1 in each image: index mistakes", true, &impulse},
    {"extreme", "logits around 1e4: softmax must not overflow", true, &extreme},
    {"special", "NaN, infinities, -0 and subnormals", false, &special},
};
const size_t fill_count = sizeof fill_table / sizeof *fill_table;

enum status fill_find(const char *name, const struct fill **fill, struct error *error)
{
    char known[160] = "";
    for (size_t i = 0; i < fill_count; i++) {
        if (strcmp(name, fill_table[i].name) == 0) {
            *fill = &fill_table[i];
            return STATUS_OK;
        }
        strcat(strcat(known, i ? ", " : ""), fill_table[i].name);
    }
    return error_set(error, STATUS_BAD_INPUT, "unknown fill '%.40s': known are %s", name, known);
}

static struct context context_for(const struct fill *fill, const struct problem *p, uint64_t seed)
{
    struct context c = {.problem = p,
                        .seed = seed,
                        .fill_id = fill->rules->id,
                        .image = problem_input_image(p),
                        .terms = (double)problem_reduction_length(p)};
    const float scale = fabsf(p->scaling_factor);
    c.bias_scale = isfinite(scale) && scale > 1.0f ? 2.0f / scale : 2.0f;
    c.special_rate = 0.25 / (c.terms * (double)p->groups);
    c.weight_scale = fill->rules->weight_scale(&c);
    return c;
}

static void fill_tensor(const struct context *c, enum tensor tensor,
                        float (*element)(const struct context *, int64_t, const uint32_t[4]),
                        int64_t first, int64_t count, float *out)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        uint32_t r[4];
        draw(c, tensor, first + i, r);
        out[i] = element(c, first + i, r);
    }
}

void fill_params(const struct fill *fill, const struct problem *p, uint64_t seed, float *weight,
                 float *conv_bias, float *bias)
{
    const struct context c = context_for(fill, p, seed);
    const struct fill_rules *rules = fill->rules;
    fill_tensor(&c, TENSOR_WEIGHT, rules->weight, 0, problem_weight_count(p), weight);
    if (p->has_conv_bias)
        fill_tensor(&c, TENSOR_CONV_BIAS, rules->conv_bias, 0, p->out_channels, conv_bias);
    fill_tensor(&c, TENSOR_BIAS, rules->bias, 0, p->bias_count, bias);
}

void fill_input(const struct fill *fill, const struct problem *p, uint64_t seed, int64_t first,
                int64_t count, float *x)
{
    const struct context c = context_for(fill, p, seed);
    if (fill->rules->x) {
        fill_tensor(&c, TENSOR_X, fill->rules->x, first * c.image, count * c.image, x);
        return;
    }
    memset(x, 0, (size_t)(count * c.image) * sizeof *x);
    for (int64_t n = first; n < first + count; n++)
        x[(n - first) * c.image + impulse_index(&c, n)] = 1.0f;
}
