#include "ref/random_problem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <Random123/philox.h>

#define STREAM 0x70726f62u /* keeps these draws apart from those of the fills */

/* Draws one after the other for one (seed, index). */
struct stream {
    uint64_t seed;
    int64_t index;
    uint32_t drawn;
};

/* A whole number in [0, n). */
static int64_t below(struct stream *s, int64_t n)
{
    const philox4x32_ctr_t counter = {
        {(uint32_t)s->index, (uint32_t)((uint64_t)s->index >> 32), s->drawn++, STREAM}};
    const philox4x32_key_t key = {{(uint32_t)s->seed, (uint32_t)(s->seed >> 32)}};
    return (int64_t)(((uint64_t)philox4x32(counter, key).v[0] * (uint64_t)n) >> 32);
}

#define CHOOSE(s, list) (list)[below(s, (int64_t)(sizeof(list) / sizeof *(list)))]

static const int64_t batches[] = {1, 1, 2, 3, 5};
static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 31, 33};
static const int64_t kernels[] = {1, 2, 3, 3, 4, 4, 5, 7};
static const int64_t strides[] = {1, 1, 2, 2, 2, 3, 4, 5};
static const int64_t dilations[] = {1, 1, 1, 1, 2, 3, 4};
static const int64_t group_counts[] = {1, 1, 1, 1, 2, 3, 4};
static const int64_t channels[] = {1,  2,  3,  4,  5,  7,  8,   13,  15, 16,
                                   17, 31, 32, 33, 64, 65, 127, 128, 129};
static const float scales[] = {2.0f, 2.0f, 2.0f, 1.0f, 0.5f, -1.5f, 3.0f, 0.1f, 8.0f};

struct axis {
    int64_t size, kernel, stride, padding, output_padding, dilation;
};

static struct axis draw_axis(struct stream *s, bool home)
{
    struct axis a = {.size = CHOOSE(s, sizes)};
    if (home) {
        a.kernel = 4, a.stride = 2, a.padding = 1, a.dilation = 1;
        a.output_padding = below(s, 2);
        return a;
    }
    a.kernel = CHOOSE(s, kernels);
    a.stride = CHOOSE(s, strides);
    a.dilation = CHOOSE(s, dilations);
    a.padding = below(s, a.dilation * (a.kernel - 1) + 2);
    a.output_padding = below(s, a.stride > a.dilation ? a.stride : a.dilation);
    return a;
}

static struct problem draw(struct stream *s)
{
    const bool home = below(s, 8) == 0, square = below(s, 2) == 0;
    const struct axis h = draw_axis(s, home);
    struct axis w = draw_axis(s, home);
    if (square && !home) {
        w = h;
        w.size = CHOOSE(s, sizes);
    }
    const int64_t groups = home ? 1 : CHOOSE(s, group_counts);
    struct problem p = {.batch = CHOOSE(s, batches),
                        .in_channels = groups * CHOOSE(s, channels),
                        .out_channels = groups * CHOOSE(s, channels),
                        .height = h.size,
                        .width = w.size,
                        .kernel_h = h.kernel,
                        .kernel_w = w.kernel,
                        .stride_h = h.stride,
                        .stride_w = w.stride,
                        .padding_h = h.padding,
                        .padding_w = w.padding,
                        .output_padding_h = h.output_padding,
                        .output_padding_w = w.output_padding,
                        .dilation_h = h.dilation,
                        .dilation_w = w.dilation,
                        .groups = groups,
                        .has_conv_bias = below(s, 5) != 0,
                        .scaling_factor = CHOOSE(s, scales)};
    p.bias_count = below(s, 5) == 0 ? 1 : p.out_channels;
    return p;
}

struct problem random_problem(uint64_t seed, int64_t index)
{
    struct stream s = {seed, index, 0};
    for (;;) { /* about half of all draws do */
        const struct problem p = draw(&s);
        if (problem_validate(&p, NULL) == STATUS_OK &&
            problem_output_count(&p) <= RANDOM_PROBLEM_OUTPUTS &&
            problem_flops(&p) <= RANDOM_PROBLEM_FLOPS)
            return p;
    }
}

enum status random_problem_parse(const char *text, uint64_t *seed, int64_t *first, int64_t *last,
                                 struct error *error)
{
    const char *at = text + strlen(RANDOM_PREFIX);
    char *end;
    errno = 0;
    if (*at >= '0' && *at <= '9') {
        *seed = strtoull(at, &end, 10);
        if (*end == '/' && end[1] >= '0' && end[1] <= '9') {
            *first = *last = strtoll(end + 1, &end, 10);
            if (*end == '-' && end[1] >= '0' && end[1] <= '9')
                *last = strtoll(end + 1, &end, 10);
            if (*end == 0 && errno == 0 && *last >= *first)
                return STATUS_OK;
        }
    }
    return error_set(error, STATUS_BAD_INPUT,
                     "random problem '%.60s' is neither random:SEED/INDEX nor "
                     "random:SEED/FIRST-LAST",
                     text);
}
