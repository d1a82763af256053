/* The GEMM forms against the definition, on every kind of problem and every fill. */
#include <omp.h>

#include "ref/model_direct.h"
#include "ref/model_gemm.h"
#include "ref/oracle.h"
#include "tests/model_fixture.h"

static const char *const problems[] = {
    "mb2ic3ih5iw7oc4kh3kw2sh2sw3ph1pw0oph1opw2", /* pairs */
    "mb1ic6ih5oc4kh3sh2oph1dh3g2cb0",            /* dilation, groups, no bias */
    "mb2ic4ih6oc4kh2sh4g4",                      /* depthwise; stride > kernel: empty phases */
    "mb1ic3ih9oc1kh5ph4",                        /* one channel; padding crops */
    "mb1ic2ih4oc257kh4sh2ph1oph1bs1",            /* more channels than a vector; one bias */
    "mb1ic600ih3oc5kh4sh2ph1",                   /* more than one block of the reduction */
    "mb1ic2ih3iw300oc3kh3sh2ph1oph1",            /* a row wider than a strip */
    "mb3ic1ih1oc2kh1sf-3",                       /* a single pixel */
    "mb0ic4ih4oc4kh3",                           /* an empty batch */
    "mb1ic3ih6oc7kh6sh4dh3ph5oph2",              /* stride and dilation not coprime to the kernel */
    "mb1ic4ih5oc6kh16sh8g2",                     /* many phases */
};

static void define_all(struct model_fixture *f)
{
    struct error error;
    for (int64_t n = 0; n < f->problem.batch; n++)
        assert_status(
            model_direct_image(&f->problem, &f->params, f->x + n * problem_input_image(&f->problem),
                               f->expected + n * problem_output_image(&f->problem), &error),
            STATUS_OK);
}

static void each_problem(void (*use)(struct model_fixture *f))
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        for (size_t k = 0; k < fill_count; k++) {
            struct model_fixture f = fixture_make(problems[i], fill_table[k].name, 11 + i);
            define_all(&f);
            use(&f);
            fixture_free(&f);
        }
}

struct agreement {
    const struct model_fixture *f;
    struct oracle *oracle;
    struct bound bound;
    int64_t seen;
};

/* Expected values of both forms lie within the bound that fp64 arithmetic has. */
static bool agree(void *context, int thread, const struct oracle_strip *s)
{
    (void)thread;
    struct agreement *g = context;
    const struct problem *p = &g->f->problem;
    const struct oracle_arrays *a = s->arrays;
    double *rows = malloc((size_t)(6 * a->pitch) * sizeof *rows);
    assert_non_null(rows);
    const struct bound_pixels pixels = {{rows, rows + a->pitch},
                                        {rows + 2 * a->pitch, rows + 3 * a->pitch}};
    double *typical = rows + 4 * a->pitch, *worst = rows + 5 * a->pitch;
    strip_kernels_get()->bound_pixels(&g->bound, oracle_epilogue(g->oracle), a, &pixels);
    for (int64_t c = 0; c < a->channels; c++) {
        strip_kernels_get()->bound_row(&g->bound, oracle_epilogue(g->oracle), a, &pixels, c,
                                       typical, worst);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++, g->seen++) {
                const int64_t at = s->first_position + i * s->pitch_columns + j;
                const int64_t oh = s->oh + i * s->step_h, ow = s->ow + j * s->step_w;
                const double y = a->expected[c * a->pitch + at];
                const double want =
                    g->f->expected[((s->image * p->out_channels + c) * problem_output_h(p) + oh) *
                                       problem_output_w(p) +
                                   ow];
                if (isnan(want) ? !isnan(y) : !(fabs(y - want) <= typical[at]))
                    fail_msg("(%lld, %lld, %lld, %lld): %.17g, expected %.17g within %g",
                             (long long)s->image, (long long)c, (long long)oh, (long long)ow, y,
                             want, typical[at]);
            }
    }
    free(rows);
    return true;
}

static void oracle_agrees(struct model_fixture *f)
{
    struct agreement g = {.f = f};
    omp_set_num_threads(1); /* the visitor counts and fails */
    struct error error;
    bound_init(&g.bound, CLASS_FP64, &f->problem, 0.0, 0.0);
    g.bound.output_relative = 8.0 * 0x1p-53; /* nothing is rounded to fp32 here */
    g.bound.output_absolute = 0x1p-1070;
    assert_status(oracle_create(&g.oracle, &f->problem, &f->params, &error), STATUS_OK);
    assert_status(oracle_run(g.oracle, f->x, 0, f->problem.batch, agree, &g, &error), STATUS_OK);
    assert_int_equal(g.seen, problem_output_count(&f->problem));
    oracle_free(g.oracle);
}

static void test_oracle_agrees_with_the_definition(void **state)
{
    (void)state;
    each_problem(oracle_agrees);
}

/* What bounds a magnitude, of one output by the definition. */
struct parts {
    double sum, sum_w, sum_x, max_w, max_x, products;
};

static struct parts parts_of(const struct model_fixture *f, int64_t n, int64_t c, int64_t oh,
                             int64_t ow)
{
    const struct problem *p = &f->problem;
    const int64_t in = p->in_channels / p->groups, out = p->out_channels / p->groups;
    struct parts r = {0};
    for (int64_t kh = 0; kh < p->kernel_h; kh++)
        for (int64_t kw = 0; kw < p->kernel_w; kw++) {
            const int64_t h = oh + p->padding_h - kh * p->dilation_h,
                          w = ow + p->padding_w - kw * p->dilation_w;
            if (h % p->stride_h != 0 || w % p->stride_w != 0)
                continue;
            const int64_t ih = h / p->stride_h, iw = w / p->stride_w;
            for (int64_t i = 0; i < in; i++) {
                const int64_t ic = c / out * in + i;
                const double weight = fabs(
                    (double)
                        f->weight[((ic * out + c % out) * p->kernel_h + kh) * p->kernel_w + kw]);
                r.max_w = fmax(r.max_w, weight); /* the row of A has taps beyond the rim, too */
                if (h < 0 || w < 0 || ih >= p->height || iw >= p->width)
                    continue;
                const double x = fabs(
                    (double)f->x[((n * p->in_channels + ic) * p->height + ih) * p->width + iw]);
                r.max_x = fmax(r.max_x, x);
                r.sum += weight * x;
                r.sum_w += weight;
                r.sum_x += x;
                r.products += 1.0;
            }
        }
    return r;
}

/* No magnitude is below the exact one, or above what ref/conv_transpose_gemm.h says. */
static bool magnitudes_enclose(void *context, int thread, const struct oracle_strip *s)
{
    (void)thread;
    struct agreement *g = context;
    const struct oracle_arrays *a = s->arrays;
    for (int64_t c = 0; c < a->channels; c++)
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++, g->seen++) {
                const int64_t at = c * a->pitch + s->first_position + i * s->pitch_columns + j;
                const struct parts r =
                    parts_of(g->f, s->image, c, s->oh + i * s->step_h, s->ow + j * s->step_w);
                const double bias =
                    g->f->problem.has_conv_bias ? fabs((double)g->f->conv_bias[c]) : 0.0;
                if (!isfinite(a->logit[at]) || !isfinite(bias + r.sum))
                    continue;
                const double step_w = r.max_w / MAGNITUDE_MOST, step_x = r.max_x / MAGNITUDE_MOST;
                const double most = bias + r.sum + step_x * r.sum_w + step_w * r.sum_x +
                                    r.products * step_w * step_x;
                const double got = (double)a->magnitude[at];
                if (!(got >= bias + r.sum - 0x1p-126) ||
                    !(got <= most * (1.0 + 0x1p-9) + 0x1p-126 || most > 0x1p127))
                    fail_msg("(%lld, %lld, %lld, %lld): magnitude %.9g, of %.17g at most %.17g",
                             (long long)s->image, (long long)c, (long long)(s->oh + i * s->step_h),
                             (long long)(s->ow + j * s->step_w), got, bias + r.sum, most);
            }
    return true;
}

static void oracle_encloses(struct model_fixture *f)
{
    struct agreement g = {.f = f};
    omp_set_num_threads(1);
    struct error error;
    assert_status(oracle_create(&g.oracle, &f->problem, &f->params, &error), STATUS_OK);
    assert_status(oracle_run(g.oracle, f->x, 0, f->problem.batch, magnitudes_enclose, &g, &error),
                  STATUS_OK);
    assert_int_equal(g.seen, problem_output_count(&f->problem));
    oracle_free(g.oracle);
}

static void test_magnitudes_enclose_those_of_the_definition(void **state)
{
    (void)state;
    each_problem(oracle_encloses);
}

/* One element in a thousand is ten thousand times as large: what is small beside it rounds up. */
static void test_magnitudes_enclose_where_sizes_differ(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb1ic33ih7oc9kh4sh2ph1", "conditioned", 3);
    for (int64_t i = 0; i < problem_input_count(&f.problem); i += 101)
        f.x[i] *= 1e4f;
    for (int64_t i = 0; i < problem_weight_count(&f.problem); i += 103)
        f.weight[i] *= 1e4f;
    oracle_encloses(&f);
    fixture_free(&f);
}

/* e^x and the reciprocal of the oracle's softmax and sigmoid, two channels at a time. */
static void exponentials_are_exact(void)
{
    enum { N = 4096 };
    const float bias[2] = {0.0f, -1.0f};
    const struct epilogue e = {
        .channels = 2, .bias = bias, .bias_step = 1, .scaling_factor = 300.0f};
    double *block = aligned_alloc(64, 8 * N * sizeof *block);
    float *magnitude = calloc(2 * N, sizeof *magnitude);
    assert_true(block && magnitude);
    const struct oracle_arrays a = {.channels = 2,
                                    .positions = N - 3,
                                    .pitch = N,
                                    .logit = block,
                                    .magnitude = magnitude,
                                    .probability = block + 2 * N,
                                    .expected = block + 4 * N,
                                    .maximum = block + 6 * N,
                                    .log_sum = block + 7 * N};
    for (int i = 0; i < N; i++) {
        block[i] = 0.0;
        block[N + i] = -700.0 * (double)i / N;
    }
    strip_kernels_get()->oracle_f64(&e, &a);
    for (int i = 0; i < N - 3; i++) {
        const long double small = expl((long double)block[N + i]);
        for (int c = 0; c < 2; c++) {
            const long double p = (c == 0 ? 1.0L : small) / (1.0L + small);
            const double got = a.probability[c * N + i];
            assert_true(fabsl((long double)got / p - 1.0L) <= 0x1p-51L);
            const long double y =
                1.0L / (1.0L + expl(-300.0L * ((long double)got + (long double)bias[c])));
            /* The argument itself is rounded, by 2^-53 of 300. */
            assert_true(fabsl((long double)a.expected[c * N + i] / y - 1.0L) <=
                        0x1p-51L + 301.0L * 0x1p-52L);
        }
    }
    free(magnitude);
    free(block);
}

static void gemm_runs(struct model_fixture *f)
{
    struct model_gemm *model;
    struct error error;
    assert_status(model_gemm_create(&model, &f->problem, &f->params, &error), STATUS_OK);
    assert_status(model_gemm_run(model, f->x, f->y, f->problem.batch, NULL, &error), STATUS_OK);
    model_gemm_free(model);
}

static void gemm_gives_nan_where_defined(struct model_fixture *f)
{
    gemm_runs(f);
    for (int64_t i = 0; i < problem_output_count(&f->problem); i++) {
        assert_int_equal(isnan(f->y[i]) != 0, isnan(f->expected[i]) != 0);
        if (!isnan(f->y[i]))
            assert_true(f->y[i] >= 0.0f && f->y[i] <= 1.0f);
    }
}

static void test_gemm_fp32_has_nan_where_the_definition_has(void **state)
{
    (void)state;
    each_problem(gemm_gives_nan_where_defined);
}

static void test_gemm_fp32_bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb3ic16ih17oc21kh4sh2ph1oph1", "conditioned", 1);
    const size_t bytes = (size_t)problem_output_count(&f.problem) * sizeof(float);
    float *first = malloc(bytes);
    assert_non_null(first);
    for (int threads = 1; threads <= 5; threads += 2) {
        omp_set_num_threads(threads);
        gemm_runs(&f);
        if (threads == 1)
            memcpy(first, f.y, bytes);
        assert_memory_equal(first, f.y, bytes);
    }
    free(first);
    fixture_free(&f);
}

static void test_vector_kernels_of_every_isa_agree(void **state)
{
    (void)state;
    static const char *const isas[] = {"avx512", "avx2", "sse2", "generic"};
    struct model_fixture f = fixture_make("mb1ic8ih9oc37kh3sh2ph1oph1", "conditioned", 2);
    define_all(&f);
    int tried = 0;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        setenv("ASSAY_ISA", isas[i], 1);
        if (strcmp(strip_kernels_get()->isa, isas[i]) != 0)
            continue; /* not of this machine */
        tried++;
        gemm_runs(&f);
        for (int64_t j = 0; j < problem_output_count(&f.problem); j++)
            assert_within((double)f.y[j], f.expected[j], 2e-6);
        oracle_agrees(&f);
        oracle_encloses(&f);
        exponentials_are_exact();
    }
    unsetenv("ASSAY_ISA");
    assert_true(tried >= 1);
    fixture_free(&f);
}

/* Memory is for the outputs that there are, where strides and dilations are far longer than a
 * row. */
static void test_gemm_fp32_memory_does_not_grow_with_the_stride(void **state)
{
    (void)state;
    static const char *const descriptors[] = {
        "mb1ic1ih1oc1kh1sh100000000",
        "mb2ic3ih2oc5kh2sh1sw100000000pw49999990",
        "mb1ic2ih1oc3kh3sh7sw100000000dw40000001pw40000000ph1",
        "mb2ic4ih5iw4oc3kh2kw2sh2dw3",
    };
    omp_set_num_threads(1);
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
        struct model_fixture f = fixture_make(descriptors[i], "conditioned", 1);
        define_all(&f);
        gemm_runs(&f);
        for (int64_t j = 0; j < problem_output_count(&f.problem); j++)
            assert_within((double)f.y[j], f.expected[j], 2e-6);
        fixture_free(&f);
    }
}

/* 0 * Inf must not come from padding. */
static void test_infinite_weight_does_not_meet_padding(void **state)
{
    (void)state;
    struct model_fixture f = fixture_make("mb1ic1ih2oc2kh3", "conditioned", 1);
    f.weight[0] = INFINITY; /* tap (0, 0) of channel 0: reaches outputs (0..1, 0..1) */
    f.x[0] = f.x[1] = f.x[2] = f.x[3] = -1.0f;
    define_all(&f);
    gemm_gives_nan_where_defined(&f);
    assert_within((double)f.y[15], f.expected[15], 1e-6); /* the far corner is untouched */
    assert_false(isnan(f.y[15]));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_agrees_with_the_definition),
        cmocka_unit_test(test_magnitudes_enclose_those_of_the_definition),
        cmocka_unit_test(test_magnitudes_enclose_where_sizes_differ),
        cmocka_unit_test(test_gemm_fp32_has_nan_where_the_definition_has),
        cmocka_unit_test(test_gemm_fp32_bits_do_not_depend_on_threads),
        cmocka_unit_test(test_gemm_fp32_memory_does_not_grow_with_the_stride),
        cmocka_unit_test(test_vector_kernels_of_every_isa_agree),
        cmocka_unit_test(test_infinite_weight_does_not_meet_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
