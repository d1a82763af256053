/* OpenBLAS, on whichever threads it was built, leaves OpenMP's alone. */
#include <dirent.h>
#include <omp.h>

#include "ref/blas_threads.h"
#include "ref/ceiling.h"
#include "ref/model_blas.h"
#include "tests/model_fixture.h"

static int threads_of_process(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *d; (d = readdir(tasks)) != NULL;)
        count += d->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static void test_blas_set_threads_keeps_the_callers_openmp_threads(void **state)
{
    (void)state;
    for (int callers = 1; callers <= 3; callers++)
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(callers);
            blas_set_threads(threads);
            assert_int_equal(omp_get_max_threads(), callers);
        }
    blas_set_threads(1);
}

static void test_ceilings_keep_the_callers_openmp_threads(void **state)
{
    (void)state;
    struct cpu_ceilings ceilings;
    omp_set_num_threads(3);
    cpu_ceilings_measure(2, &ceilings);
    assert_int_equal(omp_get_max_threads(), 3);
    assert_true(ceilings.sgemm_gflops > 0.0 && ceilings.dgemm_gflops > 0.0);
}

static void test_model_blas_runs_on_the_callers_threads_and_starts_no_more(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    struct model_fixture f = fixture_make("mb12ic16ih17oc21kh4sh2ph1oph1", "conditioned", 1);
    const size_t bytes = (size_t)problem_output_count(&f.problem) * sizeof(float);
    float *first = malloc(bytes);
    assert_non_null(first);
    struct error error;
    struct model_blas *m = NULL;
    omp_set_num_threads(THREADS);
    assert_status(model_blas_create(&m, &f.problem, &f.params, &error), STATUS_OK);
    assert_int_equal(omp_get_max_threads(), THREADS);
    int started = 0;
#pragma omp parallel reduction(+ : started)
    started += 1;
    assert_int_equal(started, THREADS);
    const int before = threads_of_process();
    for (int run = 0; run < 3; run++) {
        assert_status(model_blas_run(m, f.x, f.y, f.problem.batch, &error), STATUS_OK);
        assert_int_equal(threads_of_process(), before);
        if (run == 0)
            memcpy(first, f.y, bytes);
        assert_memory_equal(first, f.y, bytes);
    }
    omp_set_num_threads(1);
    assert_status(model_blas_run(m, f.x, f.y, f.problem.batch, &error), STATUS_OK);
    assert_memory_equal(first, f.y, bytes);
    model_blas_free(m);
    free(first);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blas_set_threads_keeps_the_callers_openmp_threads),
        cmocka_unit_test(test_model_blas_runs_on_the_callers_threads_and_starts_no_more),
        cmocka_unit_test(test_ceilings_keep_the_callers_openmp_threads),
    };
    return cmocka_run_group_tests_name("blas_threads", tests, NULL, NULL);
}
