/* What machine this is and what was built: the part of a record that says what was measured. */
#ifndef ASSAY_HARNESS_MACHINE_H
#define ASSAY_HARNESS_MACHINE_H

#include <stddef.h>

struct machine {
    char cpu[128]; /* the processor's name */
    int cores;     /* that this process may run on */
    double memory_gb;
    char os[160];
    char id[320]; /* "CPU, N cores[, GPU]": machines with different ids are never compared */
};

/* Reads /proc; the GPU joins the id when there is one. */
void machine_get(struct machine *machine);

/* The commit that is measured: `asked` where not NULL, else ASSAY_COMMIT, else the one the program
 * was built from. */
const char *commit_get(const char *asked);

/* Version of assay. */
const char *assay_version(void);

/* Versions of the libraries in use, one line. */
void libraries_describe(char *text, size_t size);

#endif
