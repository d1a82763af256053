/* Verdicts as a JUnit XML file, which continuous integration reads: a test case for each pair of
 * case and implementation, failures and errors with the reason and the line that runs them again.
 */
#ifndef ASSAY_HARNESS_JUNIT_H
#define ASSAY_HARNESS_JUNIT_H

#include "harness/trial.h"

struct junit;

/* Makes sure that the file can be written, before anything is run. STATUS_BAD_INPUT where `path`
 * cannot be a file, STATUS_ENVIRONMENT else. */
enum status junit_create(struct junit **junit, const char *path, struct error *error);
void junit_free(struct junit *junit);

void junit_add(struct junit *junit, const char *case_name, const struct trial *trial,
               const char *reproduce);

/* Writes the file, whole or not at all. */
enum status junit_write(struct junit *junit, struct error *error);

#endif
