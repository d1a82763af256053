/* Host side of gpu/stream_geometry.h: the numbering for a problem, and the choice among the
 * possible ones (internal to gpu/; no CUDA). */
#ifndef ASSAY_GPU_STREAM_NUMBERING_H
#define ASSAY_GPU_STREAM_NUMBERING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gpu/stream_geometry.h"
#include "ref/problem.h"

enum { STREAM_TILE = 64, STREAM_COLUMNS = 256, STREAM_RANKS = 8 };

/* The knobs of a numbering. */
struct stream_choice {
    int phases_h, phases_w, ranks;
};

static inline int64_t stream_divide_up(int64_t a, int64_t b)
{
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

static inline int64_t stream_divide_down(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static inline int stream_power_above(int64_t n)
{
    int power = 1;
    while (power < n)
        power *= 2;
    return power;
}

/* NULL, or why the axis does not fit. */
static inline const char *stream_axis_make(struct stream_axis *a, int64_t size, int64_t output,
                                           int64_t kernel, int64_t stride, int64_t padding,
                                           int64_t dilation, int phases)
{
    const int64_t limit = (int64_t)1 << 28;
    memset(a, 0, sizeof *a);
    if (size == 1 && stride < output + padding)
        stride = output + padding;
    if (size >= limit || output >= limit || stride >= limit || padding >= limit ||
        dilation >= limit || kernel >= limit || dilation * (kernel - 1) >= limit)
        return "the shape is past 28-bit coordinates";
    a->size = (int)size;
    a->output = (int)output;
    a->kernel = (int)kernel;
    a->stride = (int)stride;
    a->padding = (int)padding;
    a->dilation = (int)dilation;
    a->phases = phases;
    /* phases that no output has are left out */
    const int64_t used = stride < output + padding ? stride : output + padding;
    if (used > (int64_t)STREAM_MAX_CHUNKS * phases)
        return "the stride leaves too many phases";
    a->chunks = (int)((used + phases - 1) / phases);
    for (int c = 0; c < a->chunks; c++) {
        struct stream_chunk *chunk = &a->chunk[c];
        int64_t first = limit * 2, last = -limit * 2;
        int64_t reach = -1; /* the largest j of any kernel row */
        for (int64_t f = (int64_t)c * phases; f < (int64_t)(c + 1) * phases && f < stride; f++) {
            const int64_t from = stream_divide_up(padding - f, stride);
            const int64_t to = stream_divide_down(padding + output - 1 - f, stride);
            if (from > to)
                continue;
            first = from < first ? from : first;
            last = to > last ? to : last;
        }
        chunk->first = first > last ? 0 : (int)first;
        chunk->count = first > last ? 0 : (int)(last - first + 1);
        chunk->first_tap = a->taps;
        for (;;) { /* the next larger j that a kernel row of one of the phases has */
            int64_t next = INT64_MAX;
            for (int64_t k = 0; k < kernel; k++) {
                const int64_t at = k * dilation, f = at % stride, j = at / stride;
                if (f / phases == c && j > reach && j < next)
                    next = j;
            }
            if (next == INT64_MAX)
                break;
            if (a->taps == STREAM_MAX_TAPS)
                return "the kernel has too many rows or columns";
            a->tap[a->taps++] = (int)next;
            chunk->taps++;
            reach = next;
        }
    }
    return NULL;
}

static inline int64_t stream_chunk_tiles(const struct stream_geometry *g, int ch, int cw)
{
    const int64_t rows = (int64_t)g->images * g->rows.chunk[ch].count * g->columns.chunk[cw].count;
    return (rows + STREAM_TILE - 1) / STREAM_TILE;
}

/* Sets what depends on the number of images. */
static inline void stream_geometry_images(struct stream_geometry *g, int64_t images)
{
    int64_t tiles = 0;
    g->images = (int)images;
    for (int ch = 0; ch < g->rows.chunks; ch++)
        for (int cw = 0; cw < g->columns.chunks; cw++)
            if (stream_chunk_tiles(g, ch, cw) > tiles)
                tiles = stream_chunk_tiles(g, ch, cw);
    g->tiles = (int)tiles;
}

/* Columns of the instruction for `used` columns. */
static inline int stream_columns(int used)
{
    return used <= 16    ? 16
           : used <= 32  ? 32
           : used <= 64  ? 64
           : used <= 128 ? 128
           : used <= 192 ? 192
                         : 256;
}

/* NULL, or why the problem is not covered in this way. */
static inline const char *stream_geometry_make(struct stream_geometry *g, const struct problem *p,
                                               const struct stream_choice *choice)
{
    const int64_t limit = (int64_t)1 << 31;
    const int64_t images = p->batch > 0 ? p->batch : 1;
    const char *why;
    memset(g, 0, sizeof *g);
    if (p->in_channels >= 1 << 20 || p->out_channels >= 1 << 20 || images >= 1 << 28)
        return "too many channels or images";
    if ((why = stream_axis_make(&g->rows, p->height, problem_output_h(p), p->kernel_h, p->stride_h,
                                p->padding_h, p->dilation_h, choice->phases_h)) ||
        (why = stream_axis_make(&g->columns, p->width, problem_output_w(p), p->kernel_w,
                                p->stride_w, p->padding_w, p->dilation_w, choice->phases_w)))
        return why;
    g->in_channels = (int)p->in_channels;
    g->out_channels = (int)p->out_channels;
    g->phases = choice->phases_h * choice->phases_w;
    while (1 << g->log_phases_w < choice->phases_w)
        g->log_phases_w++;
    g->ranks = choice->ranks;
    g->rank_channels = (g->out_channels + g->ranks - 1) / g->ranks;
    g->solo = g->out_channels == 1;
    {
        const int slice = STREAM_SLICE(stream_columns(g->rank_channels * g->phases));
        g->padded_channels = (int)((p->in_channels + slice - 1) / slice * slice);
    }
    g->input_plane = p->height * p->width;
    g->output_plane = problem_output_h(p) * problem_output_w(p);
    for (int ch = 0; ch < g->rows.chunks; ch++)
        for (int cw = 0; cw < g->columns.chunks; cw++)
            if ((double)images * g->rows.chunk[ch].count * g->columns.chunk[cw].count >= limit)
                return "too many pixels for 32-bit numbering";
    if ((double)images * (double)g->input_plane >= limit || (double)g->output_plane >= limit)
        return "too many pixels for 32-bit numbering";
    stream_geometry_images(g, images);
    if ((double)(g->tiles + 1) * g->rows.chunks * g->columns.chunks * g->ranks >= limit)
        return "too many tiles for one launch";
    return NULL;
}

/* Clocks that a problem takes, roughly: good for choosing among its numberings only. On an H200 its
 * choice was the fastest of those measured for every line of data/suites/networks.txt. A block
 * costs its start and end; its steps, which the tensor cores bound, or the 26 bytes a clock that a
 * multiprocessor was seen to get of weights and x; special functions; and stores, more where
 * neighbouring outputs come from different blocks. */
static inline double stream_cost(const struct stream_geometry *g)
{
    const int columns = stream_columns(g->rank_channels * g->phases);
    const double places = columns >= 192 ? 2 : columns == 128 ? 3 : 4; /* of a multiprocessor */
    const int neighbours = g->columns.stride < 8 ? g->columns.stride : 8;
    const int apart = g->columns.phases < neighbours ? neighbours - g->columns.phases : 0;
    double blocks = 0, steps = 0;
    for (int ch = 0; ch < g->rows.chunks; ch++)
        for (int cw = 0; cw < g->columns.chunks; cw++) {
            const double tiles = (double)stream_chunk_tiles(g, ch, cw) * g->ranks;
            blocks += tiles;
            steps += tiles * g->rows.chunk[ch].taps * g->columns.chunk[cw].taps *
                     g->padded_channels / 32;
        }
    const double each = blocks / 132; /* multiprocessor */
    const double beside = each <= 1 ? 1 : each >= places ? places : (double)(int64_t)(each + 0.999);
    const double waves = each / beside, whole = (double)(int64_t)(waves + 0.999);
    const double tensor = 2.2 * (columns > 32 ? columns : 32);
    const double bytes = beside * (STREAM_TILE + columns) * 64.0 / 26;
    int log_ranks = 0;
    while (1 << log_ranks < g->ranks)
        log_ranks++;
    return (waves < 1 ? 1 : (waves + whole) / 2) *
               (12000 + steps / (blocks > 0 ? blocks : 1) * (tensor > bytes ? tensor : bytes) +
                5.5 * columns * beside + 23.0 * columns * (1 + 6.5 * apart / neighbours)) +
           5000 * log_ranks;
}

/* The numbering that stream_cost() likes best; NULL, or why there is none. It depends on the
 * problem alone, never on how its batch is sliced. */
static inline const char *stream_geometry_choose(struct stream_geometry *best,
                                                 const struct problem *p)
{
    static const char *const none = "more than 2048 output channels are not supported";
    const char *why = none;
    double cost = 0;
    const int most_h = stream_power_above(p->height == 1 ? 8 : p->stride_h);
    const int most_w = stream_power_above(p->width == 1 ? 8 : p->stride_w);
    const int most = p->out_channels == 1 ? 64 : 8;
    memset(best, 0, sizeof *best);
    for (int w = 1; w <= most_w && w <= most; w *= 2)
        for (int h = 1; h <= most_h && w * h <= most; h *= 2)
            for (int ranks = 1; ranks <= STREAM_RANKS; ranks *= 2) {
                const struct stream_choice choice = {h, w, ranks};
                const int64_t columns = (p->out_channels + ranks - 1) / ranks * h * w;
                struct stream_geometry g;
                if (columns > STREAM_COLUMNS || (ranks > 1 && ranks * h * w > 32) ||
                    (ranks > 1 && p->out_channels < 2 * ranks))
                    continue;
                const char *cannot = stream_geometry_make(&g, p, &choice);
                if (cannot) {
                    why = why == none ? cannot : why;
                    continue;
                }
                const double c = stream_cost(&g);
                if (cost == 0 || c < cost) {
                    cost = c;
                    *best = g;
                }
            }
    return cost == 0 ? why : NULL;
}

#endif
