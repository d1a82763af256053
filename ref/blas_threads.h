/* How many threads a call of OpenBLAS takes, whichever threads it was built on.
 *
 * Built on OpenMP, openblas_set_num_threads also sets the OpenMP threads of the caller, so that
 * what follows, BLAS or not, would run on one. Built on pthreads it does not. */
#ifndef ASSAY_REF_BLAS_THREADS_H
#define ASSAY_REF_BLAS_THREADS_H

/* Calls outside of OpenMP regions. Only OpenBLAS's threads change: the OpenMP threads of the caller
 * are what they were. NOTE: built on OpenMP, OpenBLAS then takes as many as those. Inside an OpenMP
 * region of several threads it takes one in either build, after blas_set_threads(1). */
void blas_set_threads(int threads);

#endif
