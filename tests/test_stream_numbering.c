/* The streaming kernel's numbering (gpu/stream_numbering.h) against the definition, axis by axis:
 * over random problems and every number of phases, each output belongs to one patch and phase, and
 * each product of the definition to one tap. */
#include "gpu/stream_numbering.h"
#include "ref/random_problem.h"
#include "tests/unit.h"

#define SEED 20261122
#define COUNT 500

/* Products of output o by the definition that the axis has no tap for, and taps whose product is
 * not the definition's. */
static int wrong_taps(const struct stream_axis *a, const struct stream_chunk *chunk, int phase,
                      int patch)
{
    const int64_t u = (int64_t)patch * a->stride + phase;
    int wrong = 0, products = 0, taps = 0;
    for (int64_t k = 0; k < a->kernel; k++)
        for (int64_t i = 0; i < a->size; i++)
            products += i * a->stride + k * a->dilation == u;
    for (int t = 0; t < chunk->taps; t++) {
        const int j = a->tap[chunk->first_tap + t], i = patch - j;
        const int64_t reach = phase + (int64_t)a->stride * j;
        if (t > 0 && j <= a->tap[chunk->first_tap + t - 1])
            wrong++; /* in rising order, so none twice */
        if (i < 0 || i >= a->size || reach % a->dilation != 0 || reach / a->dilation >= a->kernel)
            continue; /* zero pixel or weight */
        taps++;
        wrong += (int64_t)i * a->stride + reach != u;
    }
    return wrong + abs(products - taps);
}

static void check_axis(const struct stream_axis *a)
{
    int *seen = calloc((size_t)a->output, sizeof *seen);
    assert_non_null(seen);
    for (int c = 0; c < a->chunks; c++)
        for (int f = 0; f < a->phases; f++) {
            const int phase = c * a->phases + f;
            const struct stream_chunk *chunk = &a->chunk[c];
            for (int patch = chunk->first; patch < chunk->first + chunk->count; patch++) {
                const int64_t o = (int64_t)patch * a->stride + phase - a->padding;
                if (phase >= a->stride || o < 0 || o >= a->output)
                    continue;
                seen[o]++;
                assert_int_equal(wrong_taps(a, chunk, phase, patch), 0);
            }
        }
    for (int o = 0; o < a->output; o++)
        assert_int_equal(seen[o], 1);
    free(seen);
}

static void test_axis_any_problem_covers_every_output_and_product_once(void **state)
{
    (void)state;
    for (int64_t i = 0; i < COUNT; i++) {
        const struct problem p = random_problem(SEED, i);
        for (int phases = 1; phases <= 8; phases *= 2) {
            struct stream_axis a;
            assert_null(stream_axis_make(&a, p.height, problem_output_h(&p), p.kernel_h, p.stride_h,
                                         p.padding_h, p.dilation_h, phases));
            check_axis(&a);
            assert_null(stream_axis_make(&a, p.width, problem_output_w(&p), p.kernel_w, p.stride_w,
                                         p.padding_w, p.dilation_w, phases));
            check_axis(&a);
        }
    }
}

static void test_choose_any_problem_of_one_group_fits_a_block(void **state)
{
    (void)state;
    for (int64_t i = 0; i < COUNT; i++) {
        const struct problem p = random_problem(SEED, i);
        struct stream_geometry g;
        if (p.groups != 1)
            continue;
        assert_null(stream_geometry_choose(&g, &p));
        assert_in_range(g.rank_channels * g.phases, 1, STREAM_COLUMNS);
        assert_true(g.rank_channels * g.ranks >= g.out_channels);
        assert_int_equal(g.phases, g.rows.phases * g.columns.phases);
        assert_true(g.solo || g.phases <= 8);
        for (int ch = 0; ch < g.rows.chunks; ch++)
            for (int cw = 0; cw < g.columns.chunks; cw++)
                assert_true(stream_chunk_tiles(&g, ch, cw) <= g.tiles);
    }
}

static void test_choose_any_slice_of_the_batch_keeps_the_numbering(void **state)
{
    (void)state;
    struct problem p = problem_home();
    struct stream_geometry all, slice;
    assert_null(stream_geometry_choose(&all, &p));
    slice = all;
    stream_geometry_images(&slice, 3);
    assert_int_equal(slice.images, 3);
    assert_in_range(slice.tiles, 1, all.tiles - 1);
    slice.images = all.images;
    slice.tiles = all.tiles;
    assert_memory_equal(&slice, &all, sizeof all);
}

static void test_choose_too_many_channels_is_refused(void **state)
{
    (void)state;
    struct problem p = problem_home();
    struct stream_geometry g;
    p.out_channels = p.bias_count = 2048;
    assert_null(stream_geometry_choose(&g, &p));
    p.out_channels = p.bias_count = 2049;
    assert_non_null(stream_geometry_choose(&g, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axis_any_problem_covers_every_output_and_product_once),
        cmocka_unit_test(test_choose_any_problem_of_one_group_fits_a_block),
        cmocka_unit_test(test_choose_any_slice_of_the_batch_keeps_the_numbering),
        cmocka_unit_test(test_choose_too_many_channels_is_refused),
    };
    return cmocka_run_group_tests_name("stream_numbering", tests, NULL, NULL);
}
