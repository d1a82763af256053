/* The body of ref/conv_transpose_gemm.c for one element type: REAL, SUFFIX(name). Included
 * once for float and once for double, therefore without a guard. */

enum status SUFFIX(pack_weights)(const struct subpixel *s, const float *weight, bool magnitude,
                                 struct SUFFIX(packed_weights) * packed, struct error *error)
{
    const struct problem *p = &s->problem;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    const int64_t class_count = s->rows.count * s->columns.count;
    *packed = (struct SUFFIX(packed_weights)){0};
    packed->class_offset = malloc((size_t)class_count * sizeof *packed->class_offset);
    if (!packed->class_offset)
        goto out_of_memory;
    int64_t total = 0;
    for (int64_t i = 0; i < s->rows.count; i++)
        for (int64_t j = 0; j < s->columns.count; j++) {
            const struct axis_class *rows = &s->rows.classes[i], *columns = &s->columns.classes[j];
            packed->class_offset[i * s->columns.count + j] = total;
            total += rows->phase_count * columns->phase_count * p->out_channels * rows->tap_count *
                     columns->tap_count * in_per_group;
        }
    const int64_t one = out_per_group * s->max_taps * in_per_group; /* of a phase and group */
    REAL *plain = malloc((size_t)(one ? one : 1) * sizeof *plain);
    packed->data = malloc((size_t)(total ? total : 1) * sizeof *packed->data);
    packed->zeros = calloc((size_t)out_per_group, sizeof *packed->zeros);
    if (!packed->data || !packed->zeros || !plain) {
        free(plain);
        goto out_of_memory;
    }

    REAL *packed_to = packed->data;
    for (int64_t i = 0; i < s->rows.count; i++)
        for (int64_t j = 0; j < s->columns.count; j++) {
            const struct axis_class *rows = &s->rows.classes[i], *columns = &s->columns.classes[j];
            for (int64_t group = 0; group < p->groups; group++)
                for (int64_t m = 0; m < rows->phase_count * columns->phase_count; m++) {
                    const int64_t *kh = rows->phases[m / columns->phase_count].taps;
                    const int64_t *kw = columns->phases[m % columns->phase_count].taps;
                    REAL *out = plain;
                    for (int64_t oc = 0; oc < out_per_group; oc++)
                        for (int64_t t = 0; t < rows->tap_count * columns->tap_count; t++)
                            for (int64_t ic = 0; ic < in_per_group; ic++) {
                                const int64_t in = group * in_per_group + ic;
                                const REAL w =
                                    (REAL)weight[((in * out_per_group + oc) * p->kernel_h +
                                                  kh[t / columns->tap_count]) *
                                                     p->kernel_w +
                                                 kw[t % columns->tap_count]];
                                *out++ = magnitude && w < 0 ? -w : w;
                            }
                    strip_kernels_get()->SUFFIX(pack)(plain, out_per_group,
                                                      (out - plain) / out_per_group, packed_to);
                    packed_to += out - plain;
                }
        }
    free(plain);
    return STATUS_OK;

out_of_memory:
    SUFFIX(packed_weights_release)(packed);
    return error_set(error, STATUS_ENVIRONMENT, "out of memory for packed weights");
}

void SUFFIX(packed_weights_release)(struct SUFFIX(packed_weights) * packed)
{
    free(packed->data);
    free(packed->zeros);
    free(packed->class_offset);
    *packed = (struct SUFFIX(packed_weights)){0};
}

/* One row of the panel: x[channel] at the strip's positions moved by (dh, dw), zeros outside. */
static void SUFFIX(panel_row)(const struct problem *p, const float *plane,
                              const struct strip *strip, int64_t dh, int64_t dw, bool magnitude,
                              REAL *row)
{
    /* Columns [left, right) of the strip lie inside the image. */
    const int64_t start = strip->b + dw;
    const int64_t left = start < 0 ? (-start < strip->columns ? -start : strip->columns) : 0;
    const int64_t room = p->width - start;
    int64_t right = room < strip->columns ? room : strip->columns;
    right = right < left ? left : right;
    for (int64_t i = 0; i < strip->rows; i++, row += strip->columns) {
        const int64_t ih = strip->a + i + dh;
        if (ih < 0 || ih >= p->height) {
            memset(row, 0, (size_t)strip->columns * sizeof *row);
            continue;
        }
        const float *in = plane + ih * p->width + start;
        for (int64_t j = 0; j < left; j++)
            row[j] = 0;
        if (magnitude)
            for (int64_t j = left; j < right; j++)
                row[j] = (REAL)fabsf(in[j]);
        else
            for (int64_t j = left; j < right; j++)
                row[j] = (REAL)in[j];
        for (int64_t j = right; j < strip->columns; j++)
            row[j] = 0;
    }
}

/* The definition, for weights that are not finite. */
static void SUFFIX(strip_by_definition)(const struct subpixel *s, const float *weight,
                                        bool magnitude, const float *x, const struct strip *strip,
                                        int64_t first_phase, int64_t phases, int64_t pitch, REAL *c)
{
    const struct problem *p = &s->problem;
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    for (int64_t m = first_phase; m < first_phase + phases; m++)
        for (int64_t oc = 0; oc < p->out_channels; oc++)
            for (int64_t at = 0; at < strip->rows * strip->columns; at++) {
                const int64_t a = strip->a + at / strip->columns,
                              b = strip->b + at % strip->columns;
                REAL sum = 0;
                for (int64_t t = 0; t < rows->tap_count * columns->tap_count; t++) {
                    const int64_t th = t / columns->tap_count, tw = t % columns->tap_count;
                    const int64_t ih = a + rows->distances[th], iw = b + columns->distances[tw];
                    if (ih < 0 || ih >= p->height || iw < 0 || iw >= p->width)
                        continue;
                    const int64_t kh = rows->phases[m / columns->phase_count].taps[th];
                    const int64_t kw = columns->phases[m % columns->phase_count].taps[tw];
                    for (int64_t ic = 0; ic < in_per_group; ic++) {
                        const int64_t in = oc / out_per_group * in_per_group + ic;
                        const REAL product =
                            (REAL)x[(in * p->height + ih) * p->width + iw] *
                            (REAL)weight[((in * out_per_group + oc % out_per_group) * p->kernel_h +
                                          kh) *
                                             p->kernel_w +
                                         kw];
                        sum += magnitude && product < 0 ? -product : product;
                    }
                }
                c[((m - first_phase) * p->out_channels + oc) * pitch + at] = sum;
            }
}

void SUFFIX(conv_transpose_strip)(const struct subpixel *s,
                                  const struct SUFFIX(packed_weights) * packed, const float *weight,
                                  bool magnitude, const float *x, const struct strip *strip,
                                  int64_t first_phase, int64_t phases, int64_t pitch, REAL *panel,
                                  REAL *c)
{
    const struct problem *p = &s->problem;
    const struct axis_class *rows = strip->row_class, *columns = strip->column_class;
    const int64_t out_per_group = p->out_channels / p->groups;
    const int64_t in_per_group = p->in_channels / p->groups;
    const int64_t all_phases = rows->phase_count * columns->phase_count;
    const int64_t positions = strip->rows * strip->columns;
    const int64_t k = rows->tap_count * columns->tap_count * in_per_group;

    if (!packed) {
        SUFFIX(strip_by_definition)
        (s, weight, magnitude, x, strip, first_phase, phases, pitch, c);
        return;
    }
    if (k == 0) { /* stride > kernel: no tap reaches these outputs */
        for (int64_t i = 0; i < phases * p->out_channels; i++)
            memset(c + i * pitch, 0, (size_t)positions * sizeof *c);
        return;
    }
    const struct strip_kernels *kernels = strip_kernels_get();
    int64_t offsets[GEMM_K_BLOCK];
    for (int64_t i = 0; i < GEMM_K_BLOCK; i++)
        offsets[i] = i * pitch;
    const REAL *zeros = packed->zeros;
    const REAL *class_weights = packed->data + packed->class_offset[strip->class_index];
    for (int64_t group = 0; group < p->groups; group++) {
        const REAL *group_weights = class_weights + group * all_phases * out_per_group * k;
        const float *group_x = x + group * in_per_group * p->height * p->width;
        for (int64_t k0 = 0; k0 < k; k0 += GEMM_K_BLOCK) {
            const int64_t block = k - k0 < GEMM_K_BLOCK ? k - k0 : GEMM_K_BLOCK;
            for (int64_t i = 0; i < block; i++) {
                const int64_t tap = (k0 + i) / in_per_group, ic = (k0 + i) % in_per_group;
                SUFFIX(panel_row)
                (p, group_x + ic * p->height * p->width, strip,
                 rows->distances[tap / columns->tap_count],
                 columns->distances[tap % columns->tap_count], magnitude, panel + i * pitch);
            }
            for (int64_t i = 0; i < phases; i++) {
                const struct SUFFIX(tile_product)
                    t = {.weights = group_weights + (first_phase + i) * out_per_group * k,
                         .rows = out_per_group,
                         .k = k,
                         .first = k0,
                         .depth = block,
                         .x = panel,
                         .offsets = offsets,
                         .c = c + (i * p->out_channels + group * out_per_group) * pitch,
                         .pitch = pitch,
                         .row_step = 1,
                         .positions = positions,
                         .initial = k0 == 0 ? zeros : NULL};
                kernels->SUFFIX(product)(&t);
            }
        }
    }
}
