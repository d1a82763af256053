/* Which images split fp16 operands may compute (gpu/fp16_range.h): weights rounded as the kernels
 * round them must keep every logit within what the header promises, and no weight that would not
 * may be let through. */
#include "gpu/fp16_range.h"

#include <float.h>

#include "ref/descriptor.h"
#include "tests/unit.h"

#define X_SCALE 128.0f /* of split operands, where weights are not large */

static void range_of(struct problem *p, struct fp16_range *range, const char *key,
                     const float *weight, int parts)
{
    struct error error;
    assert_int_equal(descriptor_parse(key, p, &error), STATUS_OK);
    *range = fp16_range_of(p, weight, parts);
}

/* To fp16, nearest even; v is within its range. */
static double half(double v)
{
    int exponent;
    frexp(v, &exponent);
    exponent = exponent < -13 ? -13 : exponent; /* subnormals have a step of 2^-24 */
    return ldexp(rint(ldexp(v, 11 - exponent)), exponent - 11);
}

static double split(double v)
{
    return half(v) + half(v - half(v));
}

static float random_weight(uint64_t *state, int octaves)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    const double mantissa = 1.0 + (double)(*state >> 40) / 0x1p24;
    return (float)ldexp(*state >> 39 & 1 ? -mantissa : mantissa,
                        -(int)((*state >> 33) % (unsigned)octaves));
}

static void ordinary_weights_cost_nothing(void **state)
{
    float weight[8 * 6 * 16];
    struct problem p;
    struct fp16_range range;
    uint64_t seed = 1;
    (void)state;
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++)
        weight[i] = 0.1f * random_weight(&seed, 12);
    range_of(&p, &range, "mb1ic8ih3oc6kh4sh2", weight, 2);
    assert_true(range.largest == 65504.0f / X_SCALE);
    assert_true(range.smallest == 0.0f);
    weight[100] = 0.0f; /* nothing is lost of it */
    range_of(&p, &range, "mb1ic8ih3oc6kh4sh2", weight, 2);
    assert_true(range.largest == 65504.0f / X_SCALE);
}

static void the_largest_weight_is_scaled_to_2_14(void **state)
{
    float weight[4] = {1.0f, -3.9f, 0.5f, 2.0f};
    struct problem p;
    struct fp16_range range;
    (void)state;
    range_of(&p, &range, "mb1ic2ih3oc2kh1", weight, 1);
    assert_true(3.9f * range.weight_scale >= 0x1p14f && 3.9f * range.weight_scale < 0x1p15f);
    for (int i = 0; i < 4; i++)
        weight[i] = 0.0f;
    range_of(&p, &range, "mb1ic2ih3oc2kh1", weight, 2);
    assert_true(range.weight_scale > 0.0f && range.largest == 65504.0f / X_SCALE);
    weight[0] = FLT_MIN / 4;
    range_of(&p, &range, "mb1ic2ih3oc2kh1", weight, 2);
    assert_true(isfinite(range.weight_scale) && range.largest > 0.0f);
}

static void weights_beyond_fp16_refuse_all(void **state)
{
    float weight[2] = {1.0f, INFINITY};
    struct problem p;
    struct fp16_range range;
    (void)state;
    for (int parts = 1; parts <= 2; parts++) {
        range_of(&p, &range, "mb1ic2ih3oc1kh1", weight, parts);
        assert_true(range.weight_scale == 0.0f && range.largest == -1.0f && range.x_scale > 0.0f);
    }
    weight[1] = NAN;
    range_of(&p, &range, "mb1ic2ih3oc1kh1", weight, 2);
    assert_true(range.largest == -1.0f);
    weight[1] = FLT_MAX; /* no scale of x makes up for it */
    range_of(&p, &range, "mb1ic2ih3oc1kh1", weight, 2);
    assert_true(range.largest == -1.0f);
    weight[1] = FLT_MAX / 64;
    range_of(&p, &range, "mb1ic2ih3oc1kh1", weight, 2);
    assert_true(range.largest > 0.0f && isfinite(range.x_scale));
}

/* One weight of 1e30 leaves nothing of the others, which other channels' outputs consist of. */
static void a_weight_that_dwarfs_the_others_refuses_images(void **state)
{
    float weight[3 * 5 * 9];
    struct problem p;
    struct fp16_range range;
    (void)state;
    for (size_t i = 0; i < sizeof weight / sizeof *weight; i++)
        weight[i] = 0.1f;
    weight[60] = 1e30f;
    range_of(&p, &range, "mb1ic3ih6iw5oc5kh3sh2ph1", weight, 2);
    assert_true(range.largest > 0.0f && range.largest < 1e-25f);
    range_of(&p, &range, "mb1ic3ih6iw5oc5kh3sh2ph1", weight, 1); /* its class's bound allows it */
    assert_true(range.largest == 65504.0f / 16.0f);
}

/* What counts is what meets in one output: a channel of a group, taps a stride apart. */
static void weights_are_counted_where_they_meet(void **state)
{
    float weight[4 * 2 * 3];
    struct problem p;
    struct fp16_range range;
    struct fp16_met met;
    (void)state;
    for (int i = 0; i < 4 * 2 * 3; i++)
        weight[i] = 1.0f;
    for (int in = 2; in < 4; in++) /* group 1's second channel */
        for (int tap = 0; tap < 3; tap++)
            weight[(in * 2 + 1) * 3 + tap] = 0x1p-20f;
    weight[0] = 0x1p-20f;
    range_of(&p, &range, "mb1g2ic4ih3iw3oc4kh1kw3", weight, 2);
    met = fp16_weights_met(&p, weight, range.weight_scale);
    assert_int_equal(met.small, 6);
    assert_true(met.sum == 6.0);
    range_of(&p, &range, "mb1g2ic4ih3iw3oc4kh1kw3sh1sw2", weight, 2); /* taps 0 and 2, tap 1 */
    met = fp16_weights_met(&p, weight, range.weight_scale);
    assert_int_equal(met.small, 4);
    assert_true(met.sum == 4.0);
    range_of(&p, &range, "mb1g2ic4ih3iw3oc4kh1kw3sh1sw2dh1dw2", weight, 2); /* dilated by 2 */
    assert_int_equal(fp16_weights_met(&p, weight, range.weight_scale).small, 6);
    weight[(2 * 2 + 1) * 3] = 0.0f;
    assert_int_equal(fp16_weights_met(&p, weight, range.weight_scale).small, 5);
}

/* Pixels that are small beside the image's largest must not be lost where weights make them count.
 */
static void large_weights_raise_the_scale_of_x(void **state)
{
    float weight[64 * 2];
    struct problem p;
    struct fp16_range range;
    (void)state;
    for (int octave = -8; octave < 20; octave++) {
        uint64_t random = (uint64_t)(octave + 9);
        double worst = 0.0, sum[2] = {0.0, 0.0};
        for (int i = 0; i < 64 * 2; i++) {
            weight[i] = ldexpf(random_weight(&random, 1), octave);
            sum[i % 2] += fabsf(weight[i]);
        }
        range_of(&p, &range, "mb1ic64ih3oc2kh1", weight, 2);
        assert_true(range.x_scale >= X_SCALE && 65504.0f / range.x_scale >= range.largest);
        for (int i = 0; i < 1000; i++) { /* all pixels alike, from what is lost to the largest */
            const double x = (double)range.largest * exp2(-i / 20.0);
            const double off = fabs(split(x * range.x_scale) / range.x_scale - x);
            const double error = off * fmax(sum[0], sum[1]);
            assert_true(error <= 0x1p-26 + 0x1p-22 * x * fmax(sum[0], sum[1]));
            worst = fmax(worst, error - 0x1p-24 * x * fmax(sum[0], sum[1]));
        }
        if (octave >= 2) /* no more than it has to be */
            assert_true(worst > 0x1p-29);
    }
}

/* Of operands in one part, too: dark images are computed by the tensor cores where that shifts no
 * logit by more than 2^-26 beside what rounding to 10 bits does, and by nothing else. */
static void dark_images_are_computed_where_weights_allow_it(void **state)
{
    float weight[32];
    struct problem p;
    struct fp16_range range;
    int dark = 0;
    (void)state;
    for (int octave = -6; octave < 6; octave++) {
        uint64_t random = (uint64_t)(octave + 7);
        double sum = 0.0, worst = 0.0;
        for (int i = 0; i < 32; i++) {
            weight[i] = ldexpf(random_weight(&random, 1), octave);
            sum += fabsf(weight[i]);
        }
        range_of(&p, &range, "mb1ic32ih3oc1kh1", weight, 1);
        assert_true(range.largest == 65504.0f / range.x_scale);
        for (int i = 0; i < 1000; i++) {
            const double x = 2.0 * exp2(-i / 20.0);
            const double error = fabs(half(x * range.x_scale) / range.x_scale - x) * sum;
            if (x >= range.smallest)
                assert_true(error <= 0x1p-26 + 0x1p-11 * x * sum);
            worst = fmax(worst, error - 0x1p-11 * x * sum);
        }
        assert_true((range.smallest == 0.0f) == (2.0 * sum <= range.x_scale));
        if (range.smallest > 0.0f) {
            assert_true(worst > 0x1p-29); /* not for nothing */
            assert_true(range.smallest * range.x_scale == 0.5f);
        }
        dark += range.smallest == 0.0f;
    }
    assert_true(dark > 2 && dark < 10);
}

static void what_is_let_through_keeps_its_logits(void **state)
{
    enum { kIn = 16, kOut = 4, kTaps = 4 };
    int limited = 0, sharp = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        float weight[kIn * kOut * kTaps];
        struct problem p;
        struct fp16_range range;
        uint64_t random = seed;
        const int octaves = 1 + (int)(seed % 40);
        for (int i = 0; i < kIn * kOut * kTaps; i++)
            weight[i] = 0x1p10f * random_weight(&random, octaves);
        range_of(&p, &range, "mb1ic16ih3oc4kh2sh2", weight, 2);
        limited += range.largest < 65504.0f / X_SCALE;
        for (int out = 0; out < kOut; out++) {
            double error = 0.0, sum = 0.0; /* of |x| = 1, signs as they fall worst */
            for (int in = 0; in < kIn; in++)
                for (int tap = 0; tap < kTaps; tap++) {
                    const double w = weight[(in * kOut + out) * kTaps + tap];
                    error += fabs(split(w * range.weight_scale) / range.weight_scale - w);
                    sum += fabs(w);
                }
            assert_true(range.largest * error <= 0x1p-26 + 0x1p-22 * range.largest * sum);
            sharp += 64 * range.largest * error > 0x1p-26;
        }
    }
    assert_true(limited > 20);
    assert_true(sharp > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_weights_cost_nothing),
        cmocka_unit_test(the_largest_weight_is_scaled_to_2_14),
        cmocka_unit_test(weights_beyond_fp16_refuse_all),
        cmocka_unit_test(a_weight_that_dwarfs_the_others_refuses_images),
        cmocka_unit_test(weights_are_counted_where_they_meet),
        cmocka_unit_test(large_weights_raise_the_scale_of_x),
        cmocka_unit_test(dark_images_are_computed_where_weights_allow_it),
        cmocka_unit_test(what_is_let_through_keeps_its_logits),
    };
    return cmocka_run_group_tests_name("fp16_range", tests, NULL, NULL);
}
