#include "ref/subpixel.h"

#include <stdlib.h>
#include <string.h>

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void axis_release(struct axis_classes *axis)
{
    for (int64_t c = 0; c < axis->count; c++) {
        for (int64_t m = 0; m < axis->classes[c].phase_count; m++)
            free(axis->classes[c].phases[m].taps);
        free(axis->classes[c].phases);
        free(axis->classes[c].distances);
    }
    free(axis->classes);
    *axis = (struct axis_classes){0};
}

/* Finds the class with these distances, or adds one; NULL when out of memory. Takes `distances`. */
static struct axis_class *class_for(struct axis_classes *axis, int64_t *distances, int64_t taps)
{
    for (int64_t c = 0; c < axis->count; c++) {
        struct axis_class *class = &axis->classes[c];
        if (class->tap_count == taps &&
            (taps == 0 ||
             memcmp(class->distances, distances, (size_t)taps * sizeof *distances) == 0)) {
            free(distances);
            return class;
        }
    }
    struct axis_class *grown =
        realloc(axis->classes, (size_t)(axis->count + 1) * sizeof *axis->classes);
    if (!grown) {
        free(distances);
        return NULL;
    }
    axis->classes = grown;
    grown += axis->count++;
    *grown = (struct axis_class){.tap_count = taps, .distances = distances};
    return grown;
}

static bool axis_init(struct axis_classes *axis, int64_t out, int64_t kernel, int64_t stride,
                      int64_t padding, int64_t dilation)
{
    for (int64_t r = 0; r < min64(stride, out); r++) {
        int64_t *taps = malloc((size_t)kernel * sizeof *taps);
        int64_t *distances = malloc((size_t)kernel * sizeof *distances);
        int64_t n = 0, largest = 0;
        if (!taps || !distances) {
            free(taps);
            free(distances);
            return false;
        }
        for (int64_t k = 0; k < kernel; k++) {
            const int64_t reach = r + padding - k * dilation;
            if (reach % stride != 0)
                continue;
            if (n == 0)
                largest = reach / stride; /* distances fall as k grows */
            taps[n] = k;
            distances[n++] = reach / stride - largest;
        }
        struct axis_class *class = class_for(axis, distances, n);
        struct axis_phase *phases =
            class ? realloc(class->phases, (size_t)(class->phase_count + 1) * sizeof *phases)
                  : NULL;
        if (!phases) {
            free(taps);
            return false;
        }
        class->phases = phases;
        const int64_t count = (out - r + stride - 1) / stride;
        const struct axis_phase phase = {
            .offset = r - stride * largest, .first = largest, .end = largest + count, .taps = taps};
        const bool only = class->phase_count == 0;
        class->first = only ? phase.first : min64(class->first, phase.first);
        class->end = only ? phase.end : max64(class->end, phase.end);
        phases[class->phase_count++] = phase;
    }
    return true;
}

/* GEMMs narrower than this waste the machine; strips are cut no finer for the budget's sake. */
#define LEAST_POSITIONS 128

static bool strips_init(struct subpixel *s, int64_t logit_budget)
{
    const int64_t channels = s->problem.out_channels;
    int64_t most_phases = 1;
    for (int64_t i = 0; i < s->rows.count; i++)
        for (int64_t j = 0; j < s->columns.count; j++)
            most_phases = max64(most_phases,
                                s->rows.classes[i].phase_count * s->columns.classes[j].phase_count);
    s->phases_at_once = max64(1, min64(most_phases, logit_budget / (LEAST_POSITIONS * channels)));
    const int64_t positions =
        max64(logit_budget / (s->phases_at_once * channels), LEAST_POSITIONS / 4);

    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        int64_t n = 0;
        for (int64_t i = 0; i < s->rows.count; i++)
            for (int64_t j = 0; j < s->columns.count; j++) {
                const struct axis_class *rows = &s->rows.classes[i],
                                        *columns = &s->columns.classes[j];
                const int64_t width = columns->end - columns->first;
                const int64_t parts = (width + positions - 1) / positions;
                const int64_t step_w = (width + parts - 1) / parts;
                const int64_t step_h = max64(1, positions / step_w);
                s->max_taps = max64(s->max_taps, rows->tap_count * columns->tap_count);
                for (int64_t a = rows->first; a < rows->end; a += step_h)
                    for (int64_t b = columns->first; b < columns->end; b += step_w, n++) {
                        const int64_t h = min64(step_h, rows->end - a);
                        const int64_t w = min64(step_w, columns->end - b);
                        s->max_positions = max64(s->max_positions, h * w);
                        if (pass == 1)
                            s->strips[n] = (struct strip){.row_class = rows,
                                                          .column_class = columns,
                                                          .class_index = i * s->columns.count + j,
                                                          .a = a,
                                                          .rows = h,
                                                          .b = b,
                                                          .columns = w};
                    }
            }
        s->strip_count = n;
        if (pass == 0 && !(s->strips = malloc((size_t)n * sizeof *s->strips)))
            return false;
    }
    return true;
}

enum status subpixel_init(struct subpixel *s, const struct problem *p, int64_t logit_budget,
                          struct error *error)
{
    *s = (struct subpixel){.problem = *p};
    if (axis_init(&s->rows, problem_output_h(p), p->kernel_h, p->stride_h, p->padding_h,
                  p->dilation_h) &&
        axis_init(&s->columns, problem_output_w(p), p->kernel_w, p->stride_w, p->padding_w,
                  p->dilation_w) &&
        strips_init(s, logit_budget))
        return STATUS_OK;
    subpixel_release(s);
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for the sub-pixel decomposition");
}

void subpixel_release(struct subpixel *s)
{
    axis_release(&s->rows);
    axis_release(&s->columns);
    free(s->strips);
    s->strips = NULL;
    s->strip_count = 0;
}
