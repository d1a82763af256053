/* A comparison as a table or as JSON: what compare and bench print. */
#ifndef ASSAY_HARNESS_COMPARISON_PRINT_H
#define ASSAY_HARNESS_COMPARISON_PRINT_H

#include "harness/comparison.h"

/* The table on stdout: a heading for each machine, a line for each row, geometric means, the noise
 * gauge, and what is not compared. a, b: names of the sides, with their newest commits; rows of
 * others name theirs. */
void comparison_print_text(const struct comparison_list *list, const char *a, const char *b,
                           double threshold);

/* One object a line: {"kind": "comparison", ...} for each row, then {"kind": "summary", ...}. */
void comparison_print_json(const struct comparison_list *list, const char *a, const char *b,
                           double threshold);

/* "12.3 us", "1.234 ms", "2.345 s". */
const char *seconds_text(double seconds, char *text, size_t size);

#endif
