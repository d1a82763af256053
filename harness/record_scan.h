/* The quick reader of one line: a strict JSON parser for objects whose texts are plain ASCII. */
#ifndef ASSAY_HARNESS_RECORD_SCAN_H
#define ASSAY_HARNESS_RECORD_SCAN_H

#include "harness/record_read.h"

enum field_type { FIELD_TEXT, FIELD_NUMBER, FIELD_FLAG, FIELD_SAMPLES };

/* A key and where it goes in struct record. */
struct field {
    const char *key;
    enum field_type type;
    size_t offset;
};
extern const struct field record_fields[];
extern const size_t record_field_count;

#define SCAN_KEYS 128

/* What the reader remembers from line to line: records are alike, so the key and the text that
 * stood at a place are the best guess of what stands there now. */
struct record_scan {
    struct {
        const struct field *field; /* NULL: a key that is not read */
        char key[40];
        size_t length;
    } keys[SCAN_KEYS];
    const char *texts[SCAN_KEYS];
    size_t text_lengths[SCAN_KEYS];
};

enum scan_result {
    SCAN_RECORD,  /* *record is filled; its samples are appended to the set */
    SCAN_UNKNOWN, /* ask jansson */
    SCAN_MEMORY,
};

/* line[0 .. n) without its newline; line[n] is readable and is no part of a number. */
enum scan_result record_scan_line(struct record_scan *scan, struct record_set *set,
                                  const char *line, size_t n, struct record *record);

/* A record with nothing in it. */
struct record record_empty(void);

/* Room for one more sample; false when out of memory. */
bool record_set_reserve_sample(struct record_set *set);

#endif
