#include "ref/blas_threads.h"

#include <cblas.h>
#include <omp.h>

void blas_set_threads(int threads)
{
    const int callers = omp_get_max_threads();
    openblas_set_num_threads(threads);
    omp_set_num_threads(callers);
}
