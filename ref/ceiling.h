/* What this machine's CPU can do at most, measured: the ceilings that timings are held against. */
#ifndef ASSAY_REF_CEILING_H
#define ASSAY_REF_CEILING_H

struct cpu_ceilings {
    double sgemm_gflops; /* the larger of OpenBLAS's own threading and one sgemm a thread */
    double dgemm_gflops;
    double write_gbytes_per_s; /* streaming stores to memory, all threads */
    double copy_gbytes_per_s;  /* bytes read + bytes written */
};

/* Uses `threads` threads for about half a second. */
void cpu_ceilings_measure(int threads, struct cpu_ceilings *ceilings);

/* The name and configuration string of the BLAS that is linked. */
const char *blas_description(void);

#endif
