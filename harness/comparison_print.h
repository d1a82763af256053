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

/* "-3.1 % +8.4 %": how far the interval reaches below and above the median. One number for both
 * would be true of neither where the samples are skewed, as times are. */
#define INTERVAL_TEXT_SIZE 64
const char *interval_text(const struct median *median, char text[INTERVAL_TEXT_SIZE]);

#endif
