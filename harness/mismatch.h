/* Where bad elements lie: counts by image, channel, row and column, and what they have in common.
 */
#ifndef ASSAY_HARNESS_MISMATCH_H
#define ASSAY_HARNESS_MISMATCH_H

#include "harness/comparator.h"

struct mismatch_map {
    struct problem problem;
    int64_t total;
    int64_t in_output_padding;       /* in the rows and columns that output_padding appends */
    int64_t first_pixel, last_pixel; /* row * output_w + column */
    int64_t *counts;                 /* images, channels, rows, columns, one after the other */
    int64_t *images, *channels, *rows, *columns;
};

bool mismatch_map_init(struct mismatch_map *map, const struct problem *problem);
void mismatch_map_release(struct mismatch_map *map);
void mismatch_map_add(struct mismatch_map *map, const struct element *element);
void mismatch_map_merge(struct mismatch_map *map, const struct mismatch_map *other);

/* One line: how many of `compared`, and what they share (the last row or column, the
 * output_padding, one image, one channel, one parity class, a tile, a run of pixels). Empty when
 * the map is. */
void mismatch_map_describe(const struct mismatch_map *map, int64_t compared, char *text,
                           size_t size);

#endif
