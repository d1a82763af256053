/* Libraries that are loaded at run time, so that the program starts without them (internal to
 * gpu/). */
#ifndef ASSAY_GPU_LIBRARY_H
#define ASSAY_GPU_LIBRARY_H

#include <stddef.h>

/* Opens the first of `names` (NULL-terminated) that is found: in the folders of the environment
 * variable ASSAY_LIBRARY_PATH (colon-separated), where the dynamic loader looks, in CUDA's own
 * folders. NULL, with one line in `reason`. Opened for the life of the process. */
void *library_open(const char *const *names, char *reason, size_t reason_size);

/* NULL, with one line in `reason`, where the library lacks the function. */
void *library_function(void *library, const char *name, char *reason, size_t reason_size);

#endif
