#include "harness/mismatch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int64_t size_of(const struct problem *p)
{
    return p->batch + p->out_channels + problem_output_h(p) + problem_output_w(p);
}

bool mismatch_map_init(struct mismatch_map *map, const struct problem *p)
{
    *map = (struct mismatch_map){.problem = *p, .first_pixel = INT64_MAX, .last_pixel = -1};
    map->counts = calloc((size_t)size_of(p), sizeof *map->counts);
    map->images = map->counts;
    map->channels = map->images + p->batch;
    map->rows = map->channels + p->out_channels;
    map->columns = map->rows + problem_output_h(p);
    return map->counts != NULL;
}

void mismatch_map_release(struct mismatch_map *map)
{
    free(map->counts);
    *map = (struct mismatch_map){0};
}

void mismatch_map_add(struct mismatch_map *map, const struct element *e)
{
    const struct problem *p = &map->problem;
    const int64_t pixel = e->h * problem_output_w(p) + e->w;
    map->total++;
    map->in_output_padding += e->h >= problem_output_h(p) - p->output_padding_h ||
                              e->w >= problem_output_w(p) - p->output_padding_w;
    if (pixel < map->first_pixel)
        map->first_pixel = pixel;
    if (pixel > map->last_pixel)
        map->last_pixel = pixel;
    map->images[e->n]++;
    map->channels[e->c]++;
    map->rows[e->h]++;
    map->columns[e->w]++;
}

void mismatch_map_merge(struct mismatch_map *map, const struct mismatch_map *other)
{
    map->total += other->total;
    map->in_output_padding += other->in_output_padding;
    if (other->first_pixel < map->first_pixel)
        map->first_pixel = other->first_pixel;
    if (other->last_pixel > map->last_pixel)
        map->last_pixel = other->last_pixel;
    for (int64_t i = 0; i < size_of(&map->problem); i++)
        map->counts[i] += other->counts[i];
}

/* A growing line. */
struct line {
    char *text;
    size_t size, used;
};

ASSAY_PRINTF(2, 3) static void say(struct line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const size_t room = line->size - line->used;
    const int n = vsnprintf(line->text + line->used, room, format, args);
    va_end(args);
    if (n > 0)
        line->used += (size_t)n < room ? (size_t)n : room - 1;
}

struct extent {
    int64_t first, last, hit; /* first and last index with a count, indices with one */
};

static struct extent extent_of(const int64_t *counts, int64_t n)
{
    struct extent e = {.first = -1};
    for (int64_t i = 0; i < n; i++)
        if (counts[i]) {
            e.first = e.first < 0 ? i : e.first;
            e.last = i;
            e.hit++;
        }
    return e;
}

/* The residue modulo `stride` that all hit indices share; -1: none. */
static int64_t residue_of(const int64_t *counts, int64_t n, int64_t stride)
{
    int64_t residue = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!counts[i])
            continue;
        if (residue >= 0 && i % stride != residue)
            return -1;
        residue = i % stride;
    }
    return residue;
}

static void say_axis(struct line *line, const char *one, const char *many, const int64_t *counts,
                     int64_t n, bool edge_matters)
{
    const struct extent e = extent_of(counts, n);
    if (n == 1 || e.hit == n)
        return;
    if (e.hit == 1)
        say(line, "; all in %s%s %lld", edge_matters && e.first == n - 1 ? "the last " : "", one,
            (long long)e.first);
    else if (e.last - e.first + 1 == e.hit)
        say(line, "; %s %lld to %lld of %lld", many, (long long)e.first, (long long)e.last,
            (long long)n);
    else
        say(line, "; %lld of %lld %s, between %lld and %lld", (long long)e.hit, (long long)n, many,
            (long long)e.first, (long long)e.last);
}

/* Rows and columns that are hit are two runs, and at least half of what lies in both is bad: a tile
 * was written wrong as a whole. */
static bool is_tile(const struct mismatch_map *map, const struct extent *rows,
                    const struct extent *columns)
{
    const struct problem *p = &map->problem;
    const int64_t images = extent_of(map->images, p->batch).hit;
    const int64_t channels = extent_of(map->channels, p->out_channels).hit;
    const int64_t out_h = problem_output_h(p), out_w = problem_output_w(p);
    const bool runs = rows->last - rows->first + 1 == rows->hit &&
                      columns->last - columns->first + 1 == columns->hit;
    return runs && rows->hit > 1 && columns->hit > 1 && rows->hit <= out_h / 2 &&
           columns->hit <= out_w / 2 &&
           2 * map->total >= images * channels * rows->hit * columns->hit;
}

/* The first of these that holds says where in the plane they are. */
static void say_place(struct line *line, const struct mismatch_map *map)
{
    const struct problem *p = &map->problem;
    const int64_t out_h = problem_output_h(p), out_w = problem_output_w(p);
    const struct extent rows = extent_of(map->rows, out_h);
    const struct extent columns = extent_of(map->columns, out_w);
    const int64_t rh = p->stride_h > 1 ? residue_of(map->rows, out_h, p->stride_h) : -1;
    const int64_t rw = p->stride_w > 1 ? residue_of(map->columns, out_w, p->stride_w) : -1;
    const int64_t run = map->last_pixel - map->first_pixel + 1;
    if (map->in_output_padding == map->total && rows.hit > 1 && columns.hit > 1) {
        say(line, "; all in the rows and columns that output_padding appends");
        return;
    }
    if (is_tile(map, &rows, &columns)) {
        say(line, "; a tile of %lld x %lld pixels at row %lld, column %lld", (long long)rows.hit,
            (long long)columns.hit, (long long)rows.first, (long long)columns.first);
        return;
    }
    if (rows.hit > 1 && run <= out_w && run < out_h * out_w / 4) {
        say(line, "; pixels %lld to %lld of %lld%s", (long long)map->first_pixel,
            (long long)map->last_pixel, (long long)(out_h * out_w),
            map->last_pixel == out_h * out_w - 1 ? ", the last ones" : "");
        return;
    }
    if (rh >= 0 && rows.hit > 1)
        say(line, "; rows = %lld mod %lld only", (long long)rh, (long long)p->stride_h);
    else
        say_axis(line, "row", "rows", map->rows, out_h, true);
    if (rw >= 0 && columns.hit > 1)
        say(line, "; columns = %lld mod %lld only", (long long)rw, (long long)p->stride_w);
    else
        say_axis(line, "column", "columns", map->columns, out_w, true);
    if (map->in_output_padding == map->total && p->output_padding_h + p->output_padding_w > 0)
        say(line, " (output_padding)");
}

void mismatch_map_describe(const struct mismatch_map *map, int64_t compared, char *text,
                           size_t size)
{
    const struct problem *p = &map->problem;
    struct line line = {text, size, 0};
    text[0] = 0;
    if (map->total == 0)
        return;
    say(&line, "%lld of %lld elements (%.3g %%)", (long long)map->total, (long long)compared,
        100.0 * (double)map->total / (double)compared);
    say_axis(&line, "image", "images", map->images, p->batch, false);
    say_axis(&line, "channel", "channels", map->channels, p->out_channels, true);
    say_place(&line, map);
}
