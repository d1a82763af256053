#include "harness/record_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 8

const struct field record_fields[] = {
#define X(name) {#name, FIELD_TEXT, offsetof(struct record, name)},
    RECORD_TEXTS(X)
#undef X
        {"case", FIELD_TEXT, offsetof(struct record, case_name)},
#define X(name) {#name, FIELD_NUMBER, offsetof(struct record, name)},
    RECORD_NUMBERS(X)
#undef X
        {"dirty", FIELD_FLAG, offsetof(struct record, dirty)},
    {"samples_s", FIELD_SAMPLES, offsetof(struct record, samples)},
};
const size_t record_field_count = sizeof record_fields / sizeof *record_fields;

struct record record_empty(void)
{
    struct record r = {0};
#define X(name) r.name = NAN;
    RECORD_NUMBERS(X)
#undef X
    return r;
}

bool record_set_reserve_sample(struct record_set *set)
{
    if (set->sample_count < set->sample_capacity)
        return true;
    const int64_t capacity = set->sample_capacity ? 2 * set->sample_capacity : 4096;
    double *grown = realloc(set->samples, (size_t)capacity * sizeof *grown);
    if (!grown)
        return false;
    set->samples = grown;
    set->sample_capacity = capacity;
    return true;
}

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r')
        p++;
    return p;
}

/* Each of the functions below begins at a token and returns what follows it, or NULL where the
 * token is not what the quick reader takes. The byte behind the line ends every token. */

/* A text of printable ASCII without escapes; *text and *n are what stands between the quotes. */
static const char *take_text(const char *p, const char *end, const char **text, size_t *n)
{
    if (*p != '"')
        return NULL;
    *text = ++p;
    const char *quote = memchr(p, '"', (size_t)(end - p));
    if (!quote)
        return NULL;
    *n = (size_t)(quote - p);
    unsigned char odd = 0;
    for (; p < quote; p++)
        odd |= (unsigned char)((*p == '\\') | (*p & 0x80) | ((unsigned char)*p < 0x20));
    return odd ? NULL : quote + 1;
}

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* Exact: up to 15 digits and a power of ten up to 22 make one rounding (Clinger, "How to read
 * floating point numbers accurately", 1990); other numbers go to strtod. */
static const char *take_number(const char *start, double *value)
{
    const char *p = start;
    uint64_t mantissa = 0;
    int digits = 0, exponent = 0;
    p += *p == '-';
    if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++, digits += mantissa > 0)
        mantissa = 10 * mantissa + (uint64_t)(*p - '0');
    if (*p == '.') {
        const char *fraction = ++p;
        for (; *p >= '0' && *p <= '9'; p++, digits += mantissa > 0)
            mantissa = 10 * mantissa + (uint64_t)(*p - '0');
        if (p == fraction)
            return NULL;
        exponent = -(int)(p - fraction);
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        const bool negative = *p == '-';
        p += *p == '-' || *p == '+';
        int e = 0;
        const char *first = p;
        for (; *p >= '0' && *p <= '9' && e < 10000; p++)
            e = 10 * e + (*p - '0');
        if (p == first || (*p >= '0' && *p <= '9'))
            return NULL;
        exponent += negative ? -e : e;
    }
    if (digits > 15 || exponent < -22 || exponent > 22) {
        *value = strtod(start, NULL);
        return isfinite(*value) ? p : NULL;
    }
    double v = (double)mantissa;
    v = exponent < 0 ? v / powers_of_ten[-exponent] : v * powers_of_ten[exponent];
    *value = *start == '-' ? -v : v;
    return p;
}

static const char *take_word(const char *p, const char *end, const char *word)
{
    const size_t n = strlen(word);
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

static const char *skip_value(const char *p, const char *end, int depth)
{
    const char *text;
    size_t n;
    double number;
    if (*p == '"')
        return take_text(p, end, &text, &n);
    if (*p == '{' || *p == '[') {
        const char close = *p == '{' ? '}' : ']';
        const bool object = *p == '{';
        p = skip_space(p + 1);
        if (depth == 0)
            return NULL;
        if (*p == close)
            return p + 1;
        for (;;) {
            if (object) {
                p = take_text(p, end, &text, &n);
                p = p ? skip_space(p) : NULL;
                if (!p || *p != ':')
                    return NULL;
                p = skip_space(p + 1);
            }
            p = skip_value(p, end, depth - 1);
            if (!p)
                return NULL;
            p = skip_space(p);
            if (*p == close)
                return p + 1;
            if (*p != ',')
                return NULL;
            p = skip_space(p + 1);
        }
    }
    if (*p == 't')
        return take_word(p, end, "true");
    if (*p == 'f')
        return take_word(p, end, "false");
    if (*p == 'n')
        return take_word(p, end, "null");
    return take_number(p, &number);
}

static const char *take_samples(struct record_set *set, const char *p, struct record *r)
{
    r->samples = set->sample_count;
    r->sample_count = 0;
    if (*p != '[')
        return NULL;
    p = skip_space(p + 1);
    if (*p == ']')
        return p + 1;
    for (;;) {
        if (!record_set_reserve_sample(set))
            return NULL;
        p = take_number(p, &set->samples[set->sample_count]);
        if (!p)
            return NULL;
        set->sample_count++;
        r->sample_count++;
        p = skip_space(p);
        if (*p == ']')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = skip_space(p + 1);
    }
}

/* The field of a key; place: the how-manieth key of the line it is. */
static const struct field *find_field(struct record_scan *s, int place, const char *key, size_t n)
{
    if (s->keys[place].length == n && memcmp(s->keys[place].key, key, n) == 0)
        return s->keys[place].field;
    const struct field *found = NULL;
    for (size_t i = 0; i < record_field_count && !found; i++)
        if (strncmp(record_fields[i].key, key, n) == 0 && record_fields[i].key[n] == 0)
            found = &record_fields[i];
    if (n > 0 && n < sizeof s->keys[place].key) {
        memcpy(s->keys[place].key, key, n);
        s->keys[place].length = n;
        s->keys[place].field = found;
    }
    return found;
}

static bool set_text(struct record_scan *s, struct record_set *set, const struct field *f,
                     const char *text, size_t n, struct record *r)
{
    const size_t which = (size_t)(f - record_fields);
    if (!s->texts[which] || s->text_lengths[which] != n || memcmp(s->texts[which], text, n) != 0) {
        s->texts[which] = text_pool_add(&set->texts, text, n);
        s->text_lengths[which] = n;
    }
    *(const char **)((char *)r + f->offset) = s->texts[which];
    return s->texts[which] != NULL;
}

static const char *take_field(struct record_scan *s, struct record_set *set, const struct field *f,
                              const char *p, const char *end, struct record *r)
{
    const char *text, *next;
    size_t n;
    if (*p == 'n')
        return take_word(p, end, "null"); /* as absent */
    switch (f->type) {
    case FIELD_TEXT:
        next = take_text(p, end, &text, &n);
        return next && set_text(s, set, f, text, n, r) ? next : NULL;
    case FIELD_NUMBER:
        return take_number(p, (double *)((char *)r + f->offset));
    case FIELD_FLAG:
        *(bool *)((char *)r + f->offset) = *p == 't';
        return take_word(p, end, *p == 't' ? "true" : "false");
    case FIELD_SAMPLES:
        return take_samples(set, p, r);
    }
    return NULL;
}

enum scan_result record_scan_line(struct record_scan *s, struct record_set *set, const char *line,
                                  size_t n, struct record *r)
{
    const char *end = line + n, *key, *p = skip_space(line);
    size_t length;
    if (*p != '{')
        return SCAN_UNKNOWN;
    p = skip_space(p + 1);
    for (int place = 0; place < SCAN_KEYS; place++) {
        p = take_text(p, end, &key, &length);
        p = p ? skip_space(p) : NULL;
        if (!p || *p != ':')
            return SCAN_UNKNOWN;
        p = skip_space(p + 1);
        const struct field *f = find_field(s, place, key, length);
        p = f ? take_field(s, set, f, p, end, r) : skip_value(p, end, DEPTH);
        if (!p)
            return SCAN_UNKNOWN;
        p = skip_space(p);
        if (*p == '}')
            return skip_space(p + 1) == end ? SCAN_RECORD : SCAN_UNKNOWN;
        if (*p != ',')
            return SCAN_UNKNOWN;
        p = skip_space(p + 1);
    }
    return SCAN_UNKNOWN;
}
