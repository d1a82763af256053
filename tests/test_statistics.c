/* Medians, ratios, change points: exact ranks, coverage on made-up noise, robustness. */
#include "tests/unit.h"

#include "harness/change_points.h"
#include "harness/statistics.h"

/* Seeded; the same on every machine. */
static uint64_t seed;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2.0 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static void test_median_of_known_samples_has_the_tabulated_ranks(void **state)
{
    (void)state;
    double x[20];
    for (int i = 0; i < 20; i++)
        x[i] = 20 - i;
    /* n = 10, 95 %: ranks 2 and 9; n = 20: 6 and 15 (Hahn and Meeker, table A.15). */
    struct median m = median_of(x + 10, 10, 0.95);
    assert_within(m.median, 5.5, 0.0);
    assert_within(m.low, 2.0, 0.0);
    assert_within(m.high, 9.0, 0.0);
    m = median_of(x, 20, 0.95);
    assert_within(m.low, 6.0, 0.0);
    assert_within(m.high, 15.0, 0.0);
    m = median_of(x, 1, 0.95);
    assert_within(m.low, m.high, 0.0);
}

/* Around the room for a sorted copy, and far beyond it: an odd and an even number, in no order,
 * with ties, of either sign as logarithms are. */
static void test_median_of_any_number_of_samples_is_theirs(void **state)
{
    (void)state;
    static const int64_t counts[] = {MEASUREMENT_SAMPLES, MEASUREMENT_SAMPLES + 1, 23100, 100003};
    double *x = malloc(100003 * sizeof *x);
    assert_non_null(x);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const int64_t n = counts[c];
        for (int64_t i = 0; i < n; i++)
            x[i] = (double)(i * 7919 % n - n / 2); /* a permutation: 7919 is prime to each n */
        const struct median m = median_of(x, n, 0.95);
        assert_within(m.median, n % 2 ? 0.0 : -0.5, 0.0);
        assert_within(m.high - m.low, 1.96 * sqrt((double)n), 3.0);
        assert_within(m.high + m.low, n % 2 ? 0.0 : -1.0, 0.0); /* as many ranks on either side */
        for (int64_t i = 0; i < n; i++)
            x[i] = i % 3 ? 2.0 : nextafter(2.0, 3.0); /* neighbours */
        assert_within(median_of(x, n, 0.95).median, 2.0, 0.0);
        assert_within(median_of(x, n, 0.95).high, 2.0, 0.0);
    }
    free(x);
}

static void test_measurement_stages_fit_into_the_median(void **state)
{
    (void)state;
    const double x[] = {4.0, 1.0, 1.0, 1.0, 13.0}; /* 3/4 of each one stage, 1/4 the other */
    assert_within(measurement_stage(x, 5, 3.0), 0.75, 1e-15);
    assert_within(measurement_stage(x, 5, 3.0) + measurement_stage(x, 5, 1.0),
                  median_of(x, 5, 0.95).median, 1e-15);
    assert_within(measurement_stage(x, 5, 0.0), 0.0, 0.0);
}

static void test_ratio_paired_of_too_few_pairs_says_nothing(void **state)
{
    (void)state;
    double a[8], b[8];
    for (int i = 0; i < 8; i++) {
        a[i] = 1.0;
        b[i] = 2.0 + 0.01 * i;
    }
    struct ratio r = ratio_paired(a, b, 7, 0.99); /* 2 / 2^7 > 0.01 */
    assert_true(isinf(r.high));
    assert_int_equal(change_decide(&r, 0.01), CHANGE_UNDECIDED);
    r = ratio_paired(a, b, 8, 0.99);
    assert_true(isfinite(r.high));
    assert_int_equal(change_decide(&r, 0.01), CHANGE_SLOWER);
}

/* n = 10, 95 %: the 9th of the 55 averages from either side (tabulated: T = 8 has P = 0.0244). */
static void test_ratio_paired_of_ten_pairs_has_the_tabulated_rank(void **state)
{
    (void)state;
    double a[10], b[10], averages[55];
    int n = 0;
    for (int i = 0; i < 10; i++) {
        a[i] = 1.0;
        b[i] = exp(0.1 * i * i);
    }
    for (int i = 0; i < 10; i++)
        for (int k = i; k < 10; k++)
            averages[n++] = 0.05 * (i * i + k * k);
    const struct ratio r = ratio_paired(a, b, 10, 0.95);
    assert_within(log(r.low), quantile(averages, 55, 8.0 / 54.0), 1e-12);
    assert_within(log(r.high), quantile(averages, 55, 46.0 / 54.0), 1e-12);
}

/* m = n = 5, 95 %: U = 2 has P = 0.0159, U = 3 0.0278: the 3rd of 25 from either side. */
static void test_ratio_unpaired_of_five_has_the_tabulated_rank(void **state)
{
    (void)state;
    double a[5], b[5], d[25];
    int n = 0;
    for (int i = 0; i < 5; i++) {
        a[i] = exp(0.1 * i * i);
        b[i] = exp(0.37 * i);
    }
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++)
            d[n++] = 0.37 * k - 0.1 * i * i;
    const struct ratio r = ratio_unpaired(a, 5, b, 5, 0.95);
    assert_within(log(r.low), quantile(d, 25, 2.0 / 24.0), 1e-12);
    assert_within(log(r.high), quantile(d, 25, 22.0 / 24.0), 1e-12);
}

/* What a sample looks like on a busy machine: now and then many times too long. */
static double busy_sample(double level)
{
    return level * (1.0 + 0.01 * fabs(normal())) * (uniform() < 0.1 ? 1.0 + 9.0 * uniform() : 1.0);
}

static void test_ratio_of_identical_code_covers_one(void **state)
{
    (void)state;
    enum { TRIALS = 2000, N = 30 };
    int paired = 0, unpaired = 0;
    seed = 1;
    for (int t = 0; t < TRIALS; t++) {
        double a[N], b[N];
        for (int i = 0; i < N; i++) {
            const double level = 1.0 + 0.1 * sin(0.3 * i + t); /* the machine drifts */
            a[i] = busy_sample(level);
            b[i] = busy_sample(level);
        }
        const struct ratio p = ratio_paired(a, b, N, 0.99), u = ratio_unpaired(a, N, b, N, 0.99);
        paired += p.low > 1.0 || p.high < 1.0;
        unpaired += u.low > 1.0 || u.high < 1.0;
    }
    /* 1 % of 2000 is 20; 40 is 4.5 standard deviations above. */
    assert_true(paired <= 40);
    assert_true(unpaired <= 40);
}

static void test_ratio_paired_sees_five_per_cent_through_noise(void **state)
{
    (void)state;
    enum { TRIALS = 500, N = 30 };
    int slower = 0, faster = 0;
    seed = 2;
    for (int t = 0; t < TRIALS; t++) {
        double a[N], b[N];
        for (int i = 0; i < N; i++) {
            const double level = 1.0 + 0.3 * sin(0.2 * i + t);
            a[i] = b[i] = INFINITY;
            for (int k = 0; k < 5; k++) { /* the minimum of a round */
                a[i] = fmin(a[i], busy_sample(level));
                b[i] = fmin(b[i], busy_sample(1.05 * level));
            }
        }
        const struct ratio r = ratio_paired(a, b, N, 0.99), back = ratio_paired(b, a, N, 0.99);
        slower += change_decide(&r, 0.01) == CHANGE_SLOWER;
        faster += change_decide(&back, 0.01) == CHANGE_FASTER;
    }
    assert_true(slower >= 475);
    assert_int_equal(slower, faster);
}

static void test_change_decide_knows_its_four_answers(void **state)
{
    (void)state;
    const struct {
        double low, high;
        enum change want;
    } cases[] = {{1.011, 1.2, CHANGE_SLOWER},  {0.8, 0.989, CHANGE_FASTER},
                 {0.995, 1.009, CHANGE_SAME},  {0.995, 1.02, CHANGE_UNDECIDED},
                 {0.9, 1.1, CHANGE_UNDECIDED}, {0.0, INFINITY, CHANGE_UNDECIDED}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ratio r = {1.0, cases[i].low, cases[i].high, 10};
        assert_int_equal(change_decide(&r, 0.01), cases[i].want);
    }
}

static void test_block_minima_of_rounds_are_theirs(void **state)
{
    (void)state;
    const double x[6] = {3.0, 1.0, 2.0, 6.0, 5.0, 4.0};
    double m[6];
    assert_int_equal(block_minima(x, 6, 2, m), 2);
    assert_within(m[0], 1.0, 0.0);
    assert_within(m[1], 4.0, 0.0);
    assert_int_equal(block_medians(x, 6, 2, m), 2);
    assert_within(m[0], 2.0, 0.0);
    assert_int_equal(block_minima(x, 6, 60, m), 6);
}

static int64_t find_changes(const double *x, int64_t n, int64_t *at)
{
    int64_t count;
    struct error error;
    assert_status(change_points(x, n, change_noise(x, n, 1e-4), at, &count, &error), STATUS_OK);
    return count;
}

static void test_change_points_of_steps_are_where_they_are(void **state)
{
    (void)state;
    double x[200];
    int64_t at[200];
    seed = 3;
    for (int i = 0; i < 200; i++)
        x[i] = (i < 70 ? 0.0 : i < 150 ? 0.07 : 0.02) + 0.01 * normal();
    assert_int_equal(find_changes(x, 200, at), 2);
    assert_in_range(at[0], 69, 71);
    assert_in_range(at[1], 149, 151);
}

static void test_change_points_of_noise_are_none(void **state)
{
    (void)state;
    double x[300];
    int64_t at[300];
    int false_alarms = 0;
    seed = 4;
    for (int t = 0; t < 200; t++) {
        for (int i = 0; i < 300; i++)
            x[i] = 0.01 * normal();
        false_alarms += find_changes(x, 300, at) > 0;
    }
    assert_true(false_alarms <= 10); /* 5 % */
}

static void test_change_points_of_one_outlier_are_none(void **state)
{
    (void)state;
    double x[40];
    int64_t at[40];
    seed = 5;
    for (int i = 0; i < 40; i++)
        x[i] = 0.01 * normal() + (i == 20 ? 0.03 : 0.0);
    assert_int_equal(find_changes(x, 40, at), 0);
    assert_int_equal(find_changes(x, 1, at), 0);
    assert_int_equal(find_changes(x, 3, at), 0);
}

/* PELT's pruning must not lose the optimum: against the plain dynamic programme. */
static double plain_cost(const double *x, int64_t n, double noise)
{
    double best[64];
    const double penalty = 3.0 * log((double)n);
    best[0] = -penalty;
    for (int64_t t = 1; t <= n; t++) {
        best[t] = INFINITY;
        for (int64_t s = 0; s + 2 <= t; s++) {
            double sum = 0.0, square = 0.0;
            for (int64_t i = s; i < t; i++) {
                sum += x[i] / noise;
                square += x[i] * x[i] / noise / noise;
            }
            best[t] = fmin(best[t], best[s] + penalty + square - sum * sum / (double)(t - s));
        }
    }
    return best[n];
}

static void test_change_points_cost_is_the_least(void **state)
{
    (void)state;
    seed = 6;
    for (int t = 0; t < 300; t++) {
        double x[60];
        int64_t at[60], count;
        struct error error;
        const int64_t n = 4 + (int64_t)(56.0 * uniform());
        double level = 0.0;
        for (int64_t i = 0; i < n; i++) {
            if (uniform() < 0.15)
                level = 4.0 * normal();
            x[i] = level + normal();
        }
        assert_status(change_points(x, n, 1.0, at, &count, &error), STATUS_OK);
        double cost = 3.0 * log((double)n) * (double)count;
        for (int64_t k = 0; k <= count; k++) {
            const int64_t from = k ? at[k - 1] : 0, to = k < count ? at[k] : n;
            double sum = 0.0, square = 0.0;
            assert_true(to - from >= 2);
            for (int64_t i = from; i < to; i++) {
                sum += x[i];
                square += x[i] * x[i];
            }
            cost += square - sum * sum / (double)(to - from);
        }
        assert_within(cost, plain_cost(x, n, 1.0), 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median_of_known_samples_has_the_tabulated_ranks),
        cmocka_unit_test(test_median_of_any_number_of_samples_is_theirs),
        cmocka_unit_test(test_measurement_stages_fit_into_the_median),
        cmocka_unit_test(test_ratio_paired_of_too_few_pairs_says_nothing),
        cmocka_unit_test(test_ratio_paired_of_ten_pairs_has_the_tabulated_rank),
        cmocka_unit_test(test_ratio_unpaired_of_five_has_the_tabulated_rank),
        cmocka_unit_test(test_ratio_of_identical_code_covers_one),
        cmocka_unit_test(test_ratio_paired_sees_five_per_cent_through_noise),
        cmocka_unit_test(test_change_decide_knows_its_four_answers),
        cmocka_unit_test(test_block_minima_of_rounds_are_theirs),
        cmocka_unit_test(test_change_points_of_steps_are_where_they_are),
        cmocka_unit_test(test_change_points_of_noise_are_none),
        cmocka_unit_test(test_change_points_of_one_outlier_are_none),
        cmocka_unit_test(test_change_points_cost_is_the_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
