/* Where bad elements lie, in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "harness/mismatch.h"
#include "ref/descriptor.h"

/* 3 images of 5 channels, 19 x 23 pixels, stride 2, output_padding 1. */
#define PROBLEM "mb3ic2ih9iw11oc5kh4sh2ph1oph1"
#define ROWS 19
#define COLUMNS 23

struct region {
    int64_t n0, n1, c0, c1, h0, h1, h_step, w0, w1, w_step; /* [first, end) */
};

static void expect(const struct region *regions, size_t count, const char *words)
{
    struct problem p;
    struct mismatch_map map, other;
    char text[512];
    assert_int_equal(descriptor_parse(PROBLEM, &p, NULL), STATUS_OK);
    assert_int_equal(problem_output_h(&p), ROWS);
    assert_int_equal(problem_output_w(&p), COLUMNS);
    assert_true(mismatch_map_init(&map, &p) && mismatch_map_init(&other, &p));
    int64_t k = 0;
    for (size_t i = 0; i < count; i++) {
        const struct region *r = &regions[i];
        for (int64_t n = r->n0; n < r->n1; n++)
            for (int64_t c = r->c0; c < r->c1; c++)
                for (int64_t h = r->h0; h < r->h1; h += r->h_step)
                    for (int64_t w = r->w0; w < r->w1; w += r->w_step) {
                        const struct element e = {.n = n, .c = c, .h = h, .w = w};
                        mismatch_map_add(k++ % 2 ? &map : &other, &e); /* as two threads would */
                    }
    }
    mismatch_map_merge(&map, &other);
    mismatch_map_describe(&map, problem_output_count(&p), text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in '%s'", words, text);
    mismatch_map_release(&map);
    mismatch_map_release(&other);
}

static void test_mismatch_in_the_last_row_is_said(void **state)
{
    (void)state;
    expect(&(struct region){0, 3, 0, 5, 18, 19, 1, 0, COLUMNS, 1}, 1,
           "all in the last row 18 (output_padding)");
}

static void test_mismatch_in_output_padding_is_said(void **state)
{
    (void)state;
    const struct region both[] = {{0, 3, 0, 5, 18, 19, 1, 0, COLUMNS, 1},
                                  {0, 3, 0, 5, 0, 18, 1, 22, 23, 1}};
    expect(both, 2, "all in the rows and columns that output_padding appends");
}

static void test_mismatch_in_one_tile_is_said(void **state)
{
    (void)state;
    expect(&(struct region){0, 3, 0, 5, 8, 16, 1, 0, 8, 1}, 1,
           "a tile of 8 x 8 pixels at row 8, column 0");
}

static void test_mismatch_in_the_last_pixels_is_said(void **state)
{
    (void)state;
    const struct region run[] = {{2, 3, 0, 5, 17, 18, 1, 15, COLUMNS, 1},
                                 {2, 3, 0, 5, 18, 19, 1, 0, 10, 1}};
    expect(run, 2, "all in image 2; pixels 406 to 423 of 437");
}

static void test_mismatch_in_one_phase_is_said(void **state)
{
    (void)state;
    expect(&(struct region){0, 3, 0, 5, 1, ROWS, 2, 0, COLUMNS, 2}, 1,
           "rows = 1 mod 2 only; columns = 0 mod 2 only");
}

static void test_mismatch_in_one_channel_is_said(void **state)
{
    (void)state;
    expect(&(struct region){0, 3, 4, 5, 0, ROWS, 1, 0, COLUMNS, 1}, 1, "all in the last channel 4");
}

static void test_mismatch_everywhere_names_no_place(void **state)
{
    (void)state;
    expect(&(struct region){0, 3, 0, 5, 0, ROWS, 1, 0, COLUMNS, 1}, 1,
           "6555 of 6555 elements (100 %)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mismatch_in_the_last_row_is_said),
        cmocka_unit_test(test_mismatch_in_output_padding_is_said),
        cmocka_unit_test(test_mismatch_in_one_tile_is_said),
        cmocka_unit_test(test_mismatch_in_the_last_pixels_is_said),
        cmocka_unit_test(test_mismatch_in_one_phase_is_said),
        cmocka_unit_test(test_mismatch_in_one_channel_is_said),
        cmocka_unit_test(test_mismatch_everywhere_names_no_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
