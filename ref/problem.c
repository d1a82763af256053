#include "ref/problem.h"

#include <string.h>

/* Attributes and sizes beyond this are refused before anything is multiplied: PyTorch's own limit
 * for stride and dilation, and low enough that a few products of attributes stay inside int64_t. */
#define ATTRIBUTE_MAX (((int64_t)1 << 31) - 1)
#define COUNT_MAX ((int64_t)1 << 60)

struct problem problem_home(void)
{
    return (struct problem){.batch = 128,
                            .in_channels = 64,
                            .out_channels = 128,
                            .height = 64,
                            .width = 64,
                            .kernel_h = 4,
                            .kernel_w = 4,
                            .stride_h = 2,
                            .stride_w = 2,
                            .padding_h = 1,
                            .padding_w = 1,
                            .output_padding_h = 1,
                            .output_padding_w = 1,
                            .dilation_h = 1,
                            .dilation_w = 1,
                            .groups = 1,
                            .bias_count = 128,
                            .has_conv_bias = true,
                            .scaling_factor = 2.0f};
}

static int64_t output_size(int64_t in, int64_t kernel, int64_t stride, int64_t padding,
                           int64_t output_padding, int64_t dilation)
{
    return (in - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1;
}

int64_t problem_output_h(const struct problem *p)
{
    return output_size(p->height, p->kernel_h, p->stride_h, p->padding_h, p->output_padding_h,
                       p->dilation_h);
}

int64_t problem_output_w(const struct problem *p)
{
    return output_size(p->width, p->kernel_w, p->stride_w, p->padding_w, p->output_padding_w,
                       p->dilation_w);
}

int64_t problem_input_image(const struct problem *p)
{
    return p->in_channels * p->height * p->width;
}

int64_t problem_output_image(const struct problem *p)
{
    return p->out_channels * problem_output_h(p) * problem_output_w(p);
}

int64_t problem_input_count(const struct problem *p)
{
    return p->batch * problem_input_image(p);
}

int64_t problem_output_count(const struct problem *p)
{
    return p->batch * problem_output_image(p);
}

int64_t problem_weight_count(const struct problem *p)
{
    return p->in_channels * (p->out_channels / p->groups) * p->kernel_h * p->kernel_w;
}

/* True when the product of the n sizes is at most COUNT_MAX. */
static bool count_fits(const int64_t *sizes, int n)
{
    int64_t product = 1;
    for (int i = 0; i < n; i++) {
        if (sizes[i] == 0)
            return true;
        if (__builtin_mul_overflow(product, sizes[i], &product) || product > COUNT_MAX)
            return false;
    }
    return true;
}

enum status problem_validate(const struct problem *p, struct error *error)
{
    const struct {
        const char *name;
        int64_t value, least;
        const char *reason;
    } limits[] = {
        {"batch", p->batch, 0, "must not be negative"},
        {"in_channels", p->in_channels, 1, "must be at least 1"},
        {"groups", p->groups, 1, "must be at least 1"}, /* out_channels may be a product of it */
        {"out_channels", p->out_channels, 1, "must be at least 1"},
        {"input height", p->height, 1, "must be at least 1"},
        {"input width", p->width, 1, "must be at least 1"},
        {"kernel height", p->kernel_h, 1, "must be at least 1"},
        {"kernel width", p->kernel_w, 1, "must be at least 1"},
        {"stride height", p->stride_h, 1, "must be at least 1"},
        {"stride width", p->stride_w, 1, "must be at least 1"},
        {"padding height", p->padding_h, 0, "must not be negative"},
        {"padding width", p->padding_w, 0, "must not be negative"},
        {"output_padding height", p->output_padding_h, 0, "must not be negative"},
        {"output_padding width", p->output_padding_w, 0, "must not be negative"},
        {"dilation height", p->dilation_h, 1, "must be at least 1"},
        {"dilation width", p->dilation_w, 1, "must be at least 1"},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (limits[i].value < limits[i].least)
            return error_set(error, STATUS_BAD_INPUT, "%s '%lld' %s", limits[i].name,
                             (long long)limits[i].value, limits[i].reason);
        if (limits[i].value > ATTRIBUTE_MAX)
            return error_set(error, STATUS_BAD_INPUT, "%s '%lld' is too large: at most %lld",
                             limits[i].name, (long long)limits[i].value, (long long)ATTRIBUTE_MAX);
    }
    if (p->in_channels % p->groups != 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "in_channels '%lld' must be divisible by groups '%lld'",
                         (long long)p->in_channels, (long long)p->groups);
    if (p->out_channels % p->groups != 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "out_channels '%lld' must be divisible by groups '%lld'",
                         (long long)p->out_channels, (long long)p->groups);
    if ((p->output_padding_h >= p->stride_h && p->output_padding_h >= p->dilation_h) ||
        (p->output_padding_w >= p->stride_w && p->output_padding_w >= p->dilation_w))
        return error_set(
            error, STATUS_BAD_INPUT,
            "output_padding '%lldx%lld' must be smaller than either stride or dilation",
            (long long)p->output_padding_h, (long long)p->output_padding_w);
    if (p->bias_count != 1 && p->bias_count != p->out_channels)
        return error_set(error, STATUS_BAD_INPUT,
                         "bias has '%lld' elements: it must have 1, or out_channels = %lld",
                         (long long)p->bias_count, (long long)p->out_channels);

    const int64_t oh = problem_output_h(p), ow = problem_output_w(p);
    if (oh < 1 || ow < 1)
        return error_set(error, STATUS_BAD_INPUT,
                         "input of %lldx%lld gives an output of '%lldx%lld', which is too small: "
                         "use less padding or a larger kernel",
                         (long long)p->height, (long long)p->width, (long long)oh, (long long)ow);
    const int64_t x[] = {p->batch, p->in_channels, p->height, p->width};
    const int64_t y[] = {p->batch, p->out_channels, oh, ow};
    const int64_t w[] = {p->in_channels, p->out_channels / p->groups, p->kernel_h, p->kernel_w};
    if (!count_fits(x, 4) || !count_fits(y, 4) || !count_fits(w, 4) || !count_fits(x + 1, 3) ||
        !count_fits(y + 1, 3))
        return error_set(error, STATUS_BAD_INPUT,
                         "tensors of '%lldx%lldx%lldx%lld' -> '%lldx%lldx%lldx%lld' are too large: "
                         "a tensor may have at most 2^60 elements",
                         (long long)p->batch, (long long)p->in_channels, (long long)p->height,
                         (long long)p->width, (long long)p->batch, (long long)p->out_channels,
                         (long long)oh, (long long)ow);
    return STATUS_OK;
}

bool problem_equal(const struct problem *a, const struct problem *b)
{
    /* NaN scaling factors are equal when their bits are. */
    return a->batch == b->batch && a->in_channels == b->in_channels &&
           a->out_channels == b->out_channels && a->height == b->height && a->width == b->width &&
           a->kernel_h == b->kernel_h && a->kernel_w == b->kernel_w && a->stride_h == b->stride_h &&
           a->stride_w == b->stride_w && a->padding_h == b->padding_h &&
           a->padding_w == b->padding_w && a->output_padding_h == b->output_padding_h &&
           a->output_padding_w == b->output_padding_w && a->dilation_h == b->dilation_h &&
           a->dilation_w == b->dilation_w && a->groups == b->groups &&
           a->bias_count == b->bias_count && a->has_conv_bias == b->has_conv_bias &&
           memcmp(&a->scaling_factor, &b->scaling_factor, sizeof a->scaling_factor) == 0;
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b == 0 ? a : gcd(b, a % b);
}

int64_t problem_tap_period(int64_t stride, int64_t dilation)
{
    return stride / gcd(stride, dilation);
}

/* Output pixel o receives tap k where (o + padding - k * dilation) is a multiple of the stride, so
 * the taps of one pixel lie stride / gcd(stride, dilation) apart. */
static int64_t taps_per_pixel(int64_t kernel, int64_t stride, int64_t dilation)
{
    const int64_t step = problem_tap_period(stride, dilation);
    return (kernel + step - 1) / step;
}

int64_t problem_reduction_length(const struct problem *p)
{
    return p->in_channels / p->groups * taps_per_pixel(p->kernel_h, p->stride_h, p->dilation_h) *
           taps_per_pixel(p->kernel_w, p->stride_w, p->dilation_w);
}

/* What one axis has of (input, tap) pairs whose output exists, 0 <= i * stride - padding +
 * k * dilation < out, and of inputs and taps that are in one. */
struct axis_use {
    double pairs, inputs, taps;
};

static struct axis_use axis_use(int64_t in, int64_t kernel, int64_t stride, int64_t padding,
                                int64_t dilation, int64_t out)
{
    struct axis_use use = {0.0, 0.0, 0.0};
    int64_t seen = in; /* the first input that an earlier tap has met: they only move down */
    for (int64_t k = 0; k < kernel; k++) {
        const int64_t offset = k * dilation - padding;
        const int64_t first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
        const int64_t room = out - 1 - offset;
        const int64_t last = room < 0 ? -1 : room / stride;
        const int64_t end = last < in - 1 ? last : in - 1;
        if (end < first)
            continue;
        const int64_t fresh = (end < seen - 1 ? end : seen - 1) - first + 1;
        use.pairs += (double)(end - first + 1);
        use.inputs += fresh > 0 ? (double)fresh : 0.0;
        use.taps += 1.0;
        seen = first < seen ? first : seen;
    }
    return use;
}

static void axes_use(const struct problem *p, struct axis_use *rows, struct axis_use *columns)
{
    *rows = axis_use(p->height, p->kernel_h, p->stride_h, p->padding_h, p->dilation_h,
                     problem_output_h(p));
    *columns = axis_use(p->width, p->kernel_w, p->stride_w, p->padding_w, p->dilation_w,
                        problem_output_w(p));
}

double problem_flops(const struct problem *p)
{
    struct axis_use rows, columns;
    axes_use(p, &rows, &columns);
    return 2.0 * (double)p->batch * (double)p->in_channels * (double)(p->out_channels / p->groups) *
           rows.pairs * columns.pairs;
}

double problem_bytes(const struct problem *p)
{
    struct axis_use rows, columns;
    axes_use(p, &rows, &columns);
    const double x = (double)p->batch * (double)p->in_channels * rows.inputs * columns.inputs;
    const double weights =
        (double)p->in_channels * (double)(p->out_channels / p->groups) * rows.taps * columns.taps;
    return 4.0 * (x + weights + (double)problem_output_count(p) + (double)p->bias_count +
                  (p->has_conv_bias ? (double)p->out_channels : 0.0));
}
