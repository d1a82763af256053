#include "ref/mutants.h"

#include <math.h>
#include <string.h>

/* What memory holds that nobody wrote. */
static float unwritten(void)
{
    const uint32_t bits = 0x7fd5a55au;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t input_plane(const struct problem *p)
{
    return p->height * p->width;
}

static int64_t kernel_taps(const struct problem *p)
{
    return p->kernel_h * p->kernel_w;
}

/* ---- source: what is read ---------------------------------------------------------------------
 */

static int64_t image_zero(const struct problem *p, int64_t n)
{
    (void)p, (void)n;
    return 0;
}

static int64_t image_after(const struct problem *p, int64_t n)
{
    return (n + 1) % p->batch;
}

static int64_t index_in_float(int64_t i)
{
    return (int64_t)(float)i;
}

/* ---- tensors ----------------------------------------------------------------------------------
 */

static void zero_weight(struct mutant_tensors *t)
{
    memset(t->weight, 0, (size_t)problem_weight_count(t->problem) * sizeof *t->weight);
    /* Not 0 * infinity: x is not read at all. */
    memset(t->x, 0, (size_t)problem_input_image(t->problem) * sizeof *t->x);
}

static void flip_kernel(struct mutant_tensors *t)
{
    const int64_t taps = kernel_taps(t->problem);
    const int64_t kernels = problem_weight_count(t->problem) / taps;
    for (int64_t k = 0; k < kernels; k++)
        for (int64_t i = 0; i < taps / 2; i++) {
            float *a = t->weight + k * taps + i, *b = t->weight + (k + 1) * taps - 1 - i;
            const float kept = *a;
            *a = *b;
            *b = kept;
        }
}

/* [kH, kW] read as [kW, kH]. x is spare room for one kernel only where it is large enough, so the
 * permutation goes cycle by cycle instead: in place, i -> (i mod kW) kH + i / kW. */
static void transpose_block(float *m, int64_t rows, int64_t columns)
{
    const int64_t n = rows * columns;
    for (int64_t start = 0; start < n; start++) {
        int64_t at = start;
        do
            at = at % columns * rows + at / columns;
        while (at > start);
        if (at < start)
            continue; /* its cycle is done */
        float kept = m[start];
        at = start;
        do {
            const int64_t to = at % columns * rows + at / columns;
            const float next = m[to];
            m[to] = kept;
            kept = next;
            at = to;
        } while (at != start);
    }
}

static void transpose_kernel(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    for (int64_t k = 0; k < p->in_channels * (p->out_channels / p->groups); k++)
        transpose_block(t->weight + k * kernel_taps(p), p->kernel_h, p->kernel_w);
}

/* The tensor is taken for [Cout, Cin, kH, kW]: element (ic, oc) is read at (oc, ic). */
static void transpose_channels(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    const int64_t out = p->out_channels / p->groups, taps = kernel_taps(p);
    transpose_block(t->weight, p->in_channels, out * taps); /* [oc, tap, ic] */
    for (int64_t o = 0; o < out; o++)
        transpose_block(t->weight + o * taps * p->in_channels, taps, p->in_channels);
}

static void drop_last_channel(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    memset(t->x + (p->in_channels - 1) * input_plane(p), 0, (size_t)input_plane(p) * sizeof *t->x);
}

static void drop_half_the_channels(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    const int64_t kept = p->in_channels / 2;
    memset(t->x + kept * input_plane(p), 0,
           (size_t)((p->in_channels - kept) * input_plane(p)) * sizeof *t->x);
}

static void drop_last_tap(struct mutant_tensors *t)
{
    const int64_t taps = kernel_taps(t->problem);
    for (int64_t i = taps - 1; i < problem_weight_count(t->problem); i += taps)
        t->weight[i] = 0.0f;
}

static void use_first_group(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    const int64_t one = problem_weight_count(p) / p->groups;
    for (int64_t g = 1; g < p->groups; g++)
        memcpy(t->weight + g * one, t->weight, (size_t)one * sizeof *t->weight);
}

static void transpose_input(struct mutant_tensors *t)
{
    const struct problem *p = t->problem;
    for (int64_t c = 0; c < p->in_channels; c++)
        transpose_block(t->x + c * input_plane(p), p->height, p->width);
}

static void zero_conv_bias(struct mutant_tensors *t)
{
    if (t->problem->has_conv_bias)
        memset(t->conv_bias, 0, (size_t)t->problem->out_channels * sizeof *t->conv_bias);
}

static void shift_conv_bias(struct mutant_tensors *t)
{
    const int64_t n = t->problem->out_channels;
    if (!t->problem->has_conv_bias)
        return;
    const float first = t->conv_bias[0];
    memmove(t->conv_bias, t->conv_bias + 1, (size_t)(n - 1) * sizeof *t->conv_bias);
    t->conv_bias[n - 1] = first;
}

static void first_bias_for_all(struct mutant_tensors *t)
{
    for (int64_t i = 1; i < t->problem->bias_count; i++)
        t->bias[i] = t->bias[0];
}

static void exchange_biases(struct mutant_tensors *t)
{
    const int64_t n = t->problem->has_conv_bias ? t->problem->bias_count : 0;
    for (int64_t i = 0; i < n; i++) { /* a bias of one element is the first channel's */
        const float kept = t->bias[i];
        t->bias[i] = t->conv_bias[i];
        t->conv_bias[i] = kept;
    }
}

/* Keeps `bits` bits of the significand, to nearest even; the exponent's range stays fp32's. */
static float keep_bits(float v, int bits)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    const uint32_t drop = (uint32_t)(24 - bits), half = (1u << (drop - 1)) - 1u;
    if ((u & 0x7f800000u) == 0x7f800000u)
        return v;
    u = (u + half + (u >> drop & 1u)) & ~((1u << drop) - 1u);
    memcpy(&v, &u, sizeof v);
    return v;
}

static void round_operands(struct mutant_tensors *t, int bits)
{
    for (int64_t i = 0; i < problem_input_image(t->problem); i++)
        t->x[i] = keep_bits(t->x[i], bits);
    for (int64_t i = 0; i < problem_weight_count(t->problem); i++)
        t->weight[i] = keep_bits(t->weight[i], bits);
}

static void round_to_bf16(struct mutant_tensors *t)
{
    round_operands(t, 8);
}

static void round_to_tf32(struct mutant_tensors *t)
{
    round_operands(t, 11);
}

/* ---- logits -----------------------------------------------------------------------------------
 */

/* Logit (h, w) is that of (h + dh, w + dw); where that is outside, no tap reaches the pixel. */
static void shift_logits(const struct mutant_view *v, double *z, int64_t dh, int64_t dw)
{
    const int64_t rows = problem_output_h(v->problem), columns = problem_output_w(v->problem);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < v->problem->out_channels; c++)
        for (int64_t h = 0; h < rows; h++)
            for (int64_t w = 0; w < columns; w++) {
                const int64_t from_h = h + dh, from_w = w + dw;
                const bool inside = from_h >= 0 && from_h < rows && from_w >= 0 && from_w < columns;
                z[c * v->pixels + h * columns + w] =
                    inside         ? v->honest[c * v->pixels + from_h * columns + from_w]
                    : v->conv_bias ? (double)v->conv_bias[c]
                                   : 0.0;
            }
}

static void padding_too_small(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, -1, -1);
}

static void padding_too_large(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, 1, 1);
}

static void shift_left(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, 0, 1);
}

static void shift_right(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, 0, -1);
}

static void shift_up(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, 1, 0);
}

static void shift_down(const struct mutant_view *v, double *z)
{
    shift_logits(v, z, -1, 0);
}

/* The residues of each stride's outputs stand in reverse order. */
static void swap_phases(const struct mutant_view *v, double *z)
{
    const struct problem *p = v->problem;
    const int64_t rows = problem_output_h(p), columns = problem_output_w(p);
    for (int64_t c = 0; c < p->out_channels; c++)
        for (int64_t h = 0; h < rows; h++)
            for (int64_t w = 0; w < columns; w++) {
                const int64_t from =
                    w / p->stride_w * p->stride_w + p->stride_w - 1 - w % p->stride_w;
                if (from < columns)
                    z[c * v->pixels + h * columns + w] =
                        v->honest[c * v->pixels + h * columns + from];
            }
}

/* No tap is added for the outputs that output_padding appends. */
static bool in_output_padding(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    const struct problem *p = v->problem;
    (void)c;
    return h >= problem_output_h(p) - p->output_padding_h ||
           w >= problem_output_w(p) - p->output_padding_w;
}

/* Every partial sum is rounded to the 11 bits of fp16. */
static void accumulate_in_fp16(const struct mutant_view *v, double *z)
{
    const struct problem *p = v->problem;
    const int64_t rows = problem_output_h(p), columns = problem_output_w(p);
    const int64_t in = p->in_channels / p->groups, out = p->out_channels / p->groups;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t oc = 0; oc < p->out_channels; oc++) {
        double *plane = z + oc * v->pixels;
        for (int64_t i = 0; i < v->pixels; i++)
            plane[i] = 0.0;
        for (int64_t k = 0; k < in * kernel_taps(p); k++) {
            const int64_t ic = oc / out * in + k / kernel_taps(p);
            const int64_t kh = k % kernel_taps(p) / p->kernel_w, kw = k % p->kernel_w;
            const float weight =
                v->weight[(ic * out + oc % out) * kernel_taps(p) + k % kernel_taps(p)];
            for (int64_t i = 0; i < p->height; i++) {
                const int64_t h = i * p->stride_h - p->padding_h + kh * p->dilation_h;
                for (int64_t j = 0; h >= 0 && h < rows && j < p->width; j++) {
                    const int64_t w = j * p->stride_w - p->padding_w + kw * p->dilation_w;
                    if (w < 0 || w >= columns)
                        continue;
                    const float x = v->x[(ic * p->height + i) * p->width + j];
                    double *to = plane + h * columns + w;
                    *to = (double)keep_bits((float)(*to + (double)(x * weight)), 11);
                }
            }
        }
        for (int64_t i = 0; v->conv_bias && i < v->pixels; i++)
            plane[i] += (double)v->conv_bias[oc];
    }
}

/* ---- elementary functions ---------------------------------------------------------------------
 */

/* 2^t with a straight line between powers of two: off by up to 6 %. */
static double cheap_exp(double t)
{
    const double e = t * 1.4426950408889634, whole = floor(e);
    return whole > -1000.0 ? ldexp(1.0 + (e - whole), (int)whole) : 0.0;
}

/* tanh.approx.f32 keeps about 11 bits. */
static double sigmoid_by_tanh_approx(double t)
{
    return 0.5 + 0.5 * (double)keep_bits((float)tanh(0.5 * t), 11);
}

static double hard_sigmoid(double t)
{
    const double y = t / 6.0 + 0.5;
    return y < 0.0 ? 0.0 : y > 1.0 ? 1.0 : y;
}

static double identity(double t)
{
    return t;
}

/* ---- finish -----------------------------------------------------------------------------------
 */

static void zero_all(const struct mutant_view *v, float *y)
{
    memset(y, 0, (size_t)(v->problem->out_channels * v->pixels) * sizeof *y);
}

static void scale_all(const struct mutant_view *v, float *y)
{
    for (int64_t i = 0; i < v->problem->out_channels * v->pixels; i++)
        y[i] *= v->problem->scaling_factor;
}

static void unwrite_all(const struct mutant_view *v, float *y)
{
    for (int64_t i = 0; i < v->problem->out_channels * v->pixels; i++)
        y[i] = unwritten();
}

static void nan_at_one(const struct mutant_view *v, float *y)
{
    y[v->problem->out_channels * v->pixels / 2] = NAN;
}

/* One element is another one's, as a cache line that was written back late. */
static void stale_at_one(const struct mutant_view *v, float *y)
{
    const int64_t n = v->problem->out_channels * v->pixels;
    y[n / 2] = v->truth[n / 3];
}

static void round_output_to_bf16(const struct mutant_view *v, float *y)
{
    for (int64_t i = 0; i < v->problem->out_channels * v->pixels; i++)
        y[i] = keep_bits(y[i], 8);
}

/* Below 2^-14 fp16 has fewer bits, whose step is 2^-24. */
static void round_output_to_fp16(const struct mutant_view *v, float *y)
{
    for (int64_t i = 0; i < v->problem->out_channels * v->pixels; i++)
        y[i] = y[i] < 0x1p-14f ? rintf(y[i] * 0x1p24f) * 0x1p-24f : keep_bits(y[i], 11);
}

/* ---- where ------------------------------------------------------------------------------------
 */

static bool in_last_row(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    (void)c, (void)w;
    return h == problem_output_h(v->problem) - 1;
}

static bool in_last_column(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    (void)c, (void)h;
    return w == problem_output_w(v->problem) - 1;
}

static bool in_last_tile(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    const int64_t columns = problem_output_w(v->problem), tile = 16;
    const int64_t pixel = h * columns + w;
    (void)c;
    return v->image == v->problem->batch - 1 && pixel >= (v->pixels - 1) / tile * tile;
}

static bool in_one_tile(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    (void)c;
    return h >= problem_output_h(v->problem) / 2 && h < problem_output_h(v->problem) / 2 + 8 &&
           w < 8;
}

static bool now_and_then(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    const uint64_t at =
        (uint64_t)((c * problem_output_h(v->problem) + h) * problem_output_w(v->problem) + w);
    return (at * 0x9e3779b97f4a7c15ull >> 40) % 97 == 0;
}

static bool beyond_int32(const struct mutant_view *v, int64_t c, int64_t h, int64_t w)
{
    const int64_t columns = problem_output_w(v->problem);
    return (v->image * v->problem->out_channels + c) * v->pixels + h * columns + w >
           (int64_t)INT32_MAX;
}

/* ---- the table --------------------------------------------------------------------------------
 */

const struct mutant mutant_table[] = {
    {"no-convolution", "convolution", "the convolution left out", true, false,
     .tensors = zero_weight},
    {"kernel-flipped", "convolution", "the kernel flipped (a correlation)", .tensors = flip_kernel},
    {"kernel-transposed", "convolution", "kernel rows and columns exchanged",
     .tensors = transpose_kernel},
    {"weight-transposed", "convolution", "the weight read as [out, in] channels",
     .tensors = transpose_channels},
    {"input-transposed", "convolution", "input rows and columns exchanged",
     .tensors = transpose_input},
    {"first-group-for-all", "convolution", "the first group's weights used for every group",
     .tensors = use_first_group},
    {"last-channel-dropped", "convolution", "the last input channel left out",
     .tensors = drop_last_channel},
    {"last-tap-dropped", "convolution", "the last kernel tap left out", .tensors = drop_last_tap},
    {"padding-too-small", "convolution",
     "a padding that is one too small (output shifted by a pixel)", .logits = padding_too_small},
    {"padding-too-large", "convolution",
     "a padding that is one too large (output shifted by a pixel)", .logits = padding_too_large},
    {"shifted-left", "convolution", "outputs shifted left by one column", .logits = shift_left},
    {"shifted-right", "convolution", "outputs shifted right by one column", .logits = shift_right},
    {"shifted-up", "convolution", "outputs shifted up by one row", .logits = shift_up},
    {"shifted-down", "convolution", "outputs shifted down by one row", .logits = shift_down},
    {"phases-swapped", "convolution", "the phases of the stride in the wrong order",
     .logits = swap_phases},
    {"output-padding-zero", "convolution", "output_padding rows and columns set to zero",
     .finish = zero_all, .where = in_output_padding},
    {"output-padding-no-taps", "convolution", "output_padding rows and columns without convolution",
     .tensors = zero_weight, .where = in_output_padding},
    {"conv-bias-dropped", "conv_bias", "conv_bias left out", true, false,
     .tensors = zero_conv_bias},
    {"conv-bias-shifted", "conv_bias", "conv_bias of the neighbouring channel",
     .tensors = shift_conv_bias},
    {"biases-exchanged", "conv_bias", "conv_bias and bias exchanged", .tensors = exchange_biases},
    {"softmax-flat", "softmax", "softmax replaced by 1 / channels", true, false,
     .form = {.axis = SOFTMAX_NONE}},
    {"softmax-over-rows", "softmax", "softmax over the rows", .form = {.axis = SOFTMAX_ROWS}},
    {"softmax-over-columns", "softmax", "softmax over the columns",
     .form = {.axis = SOFTMAX_COLUMNS}},
    {"softmax-by-blocks", "softmax", "softmax over blocks of 32 channels", .form = {.block = 32}},
    {"softmax-padded", "softmax", "softmax that counts channels padded to a multiple of 32",
     .form = {.padded_to = 32}},
    {"maximum-kept", "softmax", "softmax without the maximum subtracted",
     .form = {.keep_maximum = true}},
    {"bias-dropped", "bias", "bias left out", true, false, .form = {.no_bias = true}},
    {"bias-before-softmax", "bias", "bias added before the softmax", .form = {.bias_first = true}},
    {"first-bias-for-all", "bias", "the first channel's bias used for every channel",
     .tensors = first_bias_for_all},
    {"scale-dropped", "scale", "scaling_factor left out", true, false, .form = {.no_scale = true}},
    {"scale-before-bias", "scale", "scaling_factor applied before the bias",
     .form = {.scale_first = true}},
    {"scale-after-sigmoid", "scale", "scaling_factor applied after the sigmoid",
     .form = {.no_scale = true}, .finish = scale_all},
    {"sigmoid-dropped", "sigmoid", "the sigmoid left out", true, false,
     .form = {.sigmoid = identity}},
    {"sigmoid-hard", "sigmoid", "a piecewise linear sigmoid", .form = {.sigmoid = hard_sigmoid}},
    {"image-0-for-all", "index", "every image computed from image 0", .image = image_zero},
    {"image-after", "index", "every image computed from the one after it", .image = image_after},
    {"index-in-float", "index", "indices of x held in fp32 (wrong beyond 2^24)",
     .index = index_in_float},
    {"index-in-int32", "index", "indices of y held in 32 bits (wrong beyond 2^31)",
     .finish = unwrite_all, .where = beyond_int32},
    {"last-row-unwritten", "memory", "the last row not written", .finish = unwrite_all,
     .where = in_last_row},
    {"last-column-unwritten", "memory", "the last column not written", .finish = unwrite_all,
     .where = in_last_column},
    {"last-tile-unwritten", "memory", "the last tile of 16 pixels not written",
     .finish = unwrite_all, .where = in_last_tile},
    {"one-stale", "memory", "one element of another pixel", .finish = stale_at_one},
    {"one-nan", "memory", "one NaN", .finish = nan_at_one},
    {"half-loaded-tile", "memory", "one tile computed from half of the input channels (a race)",
     .tensors = drop_half_the_channels, .where = in_one_tile},
    {"lost-updates", "memory", "a sum that now and then loses a term (a race)",
     .tensors = drop_last_channel, .where = now_and_then},
    {"bf16-operands", "arithmetic", "operands rounded to bf16", .arithmetic = true,
     .tensors = round_to_bf16},
    {"tf32-operands", "arithmetic", "operands rounded to 11 bits (tf32, fp16)", .arithmetic = true,
     .tensors = round_to_tf32},
    {"fp16-accumulation", "arithmetic", "sums accumulated in fp16", .arithmetic = true,
     .logits = accumulate_in_fp16},
    {"bf16-output", "arithmetic", "the output rounded to bf16", .arithmetic = true,
     .finish = round_output_to_bf16},
    {"fp16-output", "arithmetic", "the output rounded to fp16", .arithmetic = true,
     .finish = round_output_to_fp16},
    {"cheap-exp", "arithmetic", "a cheap exponential", .arithmetic = true,
     .form = {.exp = cheap_exp}},
    {"sigmoid-tanh-approx", "arithmetic", "a sigmoid by tanh.approx", .arithmetic = true,
     .form = {.sigmoid = sigmoid_by_tanh_approx}},
};
const size_t mutant_count = sizeof mutant_table / sizeof *mutant_table;
