#include "harness/record_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/record.h"
#include "harness/record_scan.h"

#define WARNINGS 5 /* skipped lines of one file that are named */
#define CHUNK (4u << 20)
#define LINE_MOST (64u << 20)

/* What no run takes, in seconds, and no record counts. */
#define SAMPLE_LEAST 1e-15
#define SAMPLE_MOST 1e9
#define COUNT_MOST 1e9

/* What a kind of record cannot be without. Kinds that are not listed are left to later versions. */
static const struct kind {
    const char *name;
    const char *needs[5];
} kinds[] = {
    {"bench", {"commit", "machine", "problem", "implementation"}},
    {"calibration", {"machine", "problem", "implementation"}},
    {"audit", {"problem", "mutant", "rule", "outcome"}},
};

static const struct field *field_of(const char *key)
{
    for (size_t i = 0; i < record_field_count; i++)
        if (strcmp(record_fields[i].key, key) == 0)
            return &record_fields[i];
    return NULL;
}

/* Fills the record from a parsed object. */
static enum status take_object(struct record_set *set, const json_t *object, struct record *r,
                               struct error *error)
{
    for (size_t i = 0; i < record_field_count; i++) {
        const struct field *f = &record_fields[i];
        const json_t *value = json_object_get(object, f->key);
        void *place = (char *)r + f->offset;
        bool good = true;
        if (!value || json_is_null(value))
            continue;
        if (f->type == FIELD_TEXT && (good = json_is_string(value))) {
            *(const char **)place =
                text_pool_add(&set->texts, json_string_value(value), json_string_length(value));
        } else if (f->type == FIELD_NUMBER && (good = json_is_number(value))) {
            *(double *)place = json_number_value(value);
        } else if (f->type == FIELD_FLAG && (good = json_is_boolean(value))) {
            *(bool *)place = json_is_true(value);
        } else if (f->type == FIELD_SAMPLES && (good = json_is_array(value))) {
            r->samples = set->sample_count;
            for (size_t k = 0; k < json_array_size(value) && good; k++) {
                good = json_is_number(json_array_get(value, k)) && record_set_reserve_sample(set);
                if (good)
                    set->samples[set->sample_count++] = json_number_value(json_array_get(value, k));
            }
            r->sample_count = set->sample_count - r->samples;
        }
        if (!good)
            return error_set(error, STATUS_BAD_INPUT, "foreign: '%s' has another type", f->key);
    }
    return STATUS_OK;
}

static enum status parse(const char *line, size_t n, json_t **object, struct error *error)
{
    json_error_t why;
    *object = json_loadb(line, n, 0, &why);
    if (!*object)
        return error_set(error, STATUS_BAD_INPUT, "torn or not JSON: %.120s (column %d)", why.text,
                         why.column);
    return json_is_object(*object)
               ? STATUS_OK
               : error_set(error, STATUS_BAD_INPUT, "foreign: not a JSON object");
}

/* Whether it is a record of ours. */
static enum status examine(const struct record_set *set, struct record *r, struct error *error)
{
    if (isnan(r->schema))
        return error_set(error, STATUS_BAD_INPUT, "foreign: no 'schema'");
    if (r->schema > RECORD_SCHEMA)
        return error_set(error, STATUS_BAD_INPUT,
                         "schema %g is newer than this program's %d: update the program", r->schema,
                         RECORD_SCHEMA);
    const char *name = r->kind ? r->kind : "bench";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) != 0)
            continue;
        r->kind = kinds[i].name;
        if (!r->verdict) /* a peer that was only timed */
            r->verdict = "unverified";
        for (size_t k = 0; k < 5 && kinds[i].needs[k]; k++)
            if (!*(const char **)((char *)r + field_of(kinds[i].needs[k])->offset))
                return error_set(error, STATUS_BAD_INPUT, "foreign: no '%s'", kinds[i].needs[k]);
    }
    for (int64_t i = 0; i < r->sample_count; i++) {
        const double sample = set->samples[r->samples + i];
        if (!(sample >= SAMPLE_LEAST && sample <= SAMPLE_MOST))
            return error_set(error, STATUS_BAD_INPUT,
                             "foreign: a sample of %g s: it must be from %g to %g", sample,
                             SAMPLE_LEAST, SAMPLE_MOST);
    }
    if (fabs(r->threads) > COUNT_MOST || fabs(r->rounds) > COUNT_MOST)
        return error_set(error, STATUS_BAD_INPUT, "foreign: %g threads, %g rounds", r->threads,
                         r->rounds);
    return STATUS_OK;
}

/* True where the hash was not there. */
static bool see(struct record_set *set, uint64_t hash)
{
    if (2 * (set->seen_count + 1) > set->seen_size) {
        const size_t size = set->seen_size ? 2 * set->seen_size : 4096;
        uint64_t *seen = calloc(size, sizeof *seen);
        if (!seen)
            return true; /* a line that is read twice is the smaller harm */
        for (size_t i = 0; i < set->seen_size; i++) {
            size_t k = set->seen[i] & (size - 1);
            while (seen[k])
                k = (k + 1) & (size - 1);
            if (set->seen[i])
                seen[k] = set->seen[i];
        }
        free(set->seen);
        set->seen = seen;
        set->seen_size = size;
    }
    hash += hash == 0;
    size_t k = hash & (set->seen_size - 1);
    for (; set->seen[k]; k = (k + 1) & (set->seen_size - 1))
        if (set->seen[k] == hash)
            return false;
    set->seen[k] = hash;
    set->seen_count++;
    return true;
}

static enum status add_record(struct record_set *set, const struct record *r, struct error *error)
{
    if (set->count == set->capacity) {
        const int64_t capacity = set->capacity ? 2 * set->capacity : 256;
        struct record *grown = realloc(set->records, (size_t)capacity * sizeof *grown);
        if (!grown)
            return error_set(error, STATUS_ENVIRONMENT, "out of memory for the records");
        set->records = grown;
        set->capacity = capacity;
    }
    set->records[set->count++] = *r;
    set->calibrations += strcmp(r->kind, "calibration") == 0;
    return STATUS_OK;
}

/* A line of `audit --json`: {"mutant": NAME, "outcome": {RULE: OUTCOME, ...}, ...}. */
static enum status add_audit(struct record_set *set, json_t *object, const char *file,
                             int64_t number, struct error *error)
{
    struct record r = record_empty();
    json_t *outcomes = json_incref(json_object_get(object, "outcome")), *outcome;
    const char *rule;
    json_object_del(object, "outcome");
    if (!json_is_string(json_object_get(object, "mutant")))
        json_object_set_new(object, "mutant", json_string("(the reference)"));
    enum status status = take_object(set, object, &r, error);
    r.schema = isnan(r.schema) ? RECORD_SCHEMA : r.schema;
    r.kind = "audit";
    r.file = file;
    r.line = number;
    json_object_foreach(outcomes, rule, outcome)
    {
        const char *text = json_string_value(outcome);
        if (!text || status != STATUS_OK)
            continue;
        r.rule = text_pool_add(&set->texts, rule, strlen(rule));
        r.outcome = text_pool_add(&set->texts, text, strlen(text));
        status = examine(set, &r, error);
        if (status == STATUS_OK)
            status = add_record(set, &r, error);
    }
    json_decref(outcomes);
    return status;
}

static enum status add_line(struct record_scan *scan, struct record_set *set, const char *line,
                            size_t n, const char *file, int64_t number, struct error *error)
{
    struct record r = record_empty();
    const int64_t samples = set->sample_count;
    const uint64_t hash = text_hash(line, n);
    if (!see(set, hash)) {
        set->duplicates++;
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (record_scan_line(scan, set, line, n, &r) != SCAN_RECORD) {
        set->sample_count = samples;
        r = record_empty();
        json_t *object = NULL;
        status = parse(line, n, &object, error);
        if (status == STATUS_OK && json_is_object(json_object_get(object, "outcome"))) {
            status = add_audit(set, object, file, number, error);
            json_decref(object);
            return status;
        }
        if (status == STATUS_OK)
            status = take_object(set, object, &r, error);
        json_decref(object);
    }
    r.file = file;
    r.line = number;
    r.hash = hash;
    if (status == STATUS_OK)
        status = examine(set, &r, error);
    if (status == STATUS_OK)
        status = add_record(set, &r, error);
    if (status != STATUS_OK)
        set->sample_count = samples;
    return status;
}

enum status record_set_add_line(struct record_set *set, const char *line, size_t n,
                                const char *file, int64_t number, struct error *error)
{
    struct record_scan *scan = calloc(1, sizeof *scan);
    char *copy = malloc(n + 1);
    if (!scan || !copy) {
        free(scan);
        free(copy);
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    }
    memcpy(copy, line, n);
    copy[n] = 0;
    const enum status status = add_line(scan, set, copy, n, file, number, error);
    free(scan);
    free(copy);
    return status;
}

/* A file read chunk by chunk, a line at a time. */
struct reader {
    int fd;
    char *bytes;
    size_t size, from, to; /* unread: bytes[from .. to) */
    bool ended;
};

/* The next line without its newline, which becomes a zero; 1, 0 at the end, -1 with errno. */
static int next_line(struct reader *r, char **line, size_t *n)
{
    size_t searched = r->from;
    for (;;) {
        char *newline = memchr(r->bytes + searched, '\n', r->to - searched);
        if (newline || (r->ended && r->from < r->to)) {
            *line = r->bytes + r->from;
            *n = newline ? (size_t)(newline - *line) : r->to - r->from;
            (*line)[*n] = 0;
            r->from += *n + (newline != NULL);
            return 1;
        }
        if (r->ended)
            return 0;
        memmove(r->bytes, r->bytes + r->from, r->to - r->from);
        r->to -= r->from;
        r->from = 0;
        searched = r->to;
        if (r->to == r->size) {
            char *grown = r->size < LINE_MOST ? realloc(r->bytes, 2 * r->size + 1) : NULL;
            if (!grown) {
                errno = ENOMEM;
                return -1;
            }
            r->bytes = grown;
            r->size *= 2;
        }
        const ssize_t got = read(r->fd, r->bytes + r->to, r->size - r->to);
        if (got < 0 && errno != EINTR)
            return -1;
        r->ended = got == 0;
        r->to += got > 0 ? (size_t)got : 0;
    }
}

static bool blank(const char *line, size_t n)
{
    return strspn(line, " \t\r") == n;
}

static enum status read_file(struct record_set *set, const char *path, struct error *error)
{
    enum status status = STATUS_OK;
    struct record_scan *scan = calloc(1, sizeof *scan);
    struct reader reader = {.fd = open(path, O_RDONLY | O_CLOEXEC), .size = CHUNK};
    reader.bytes = malloc(reader.size + 1);
    const char *file = text_pool_add(&set->texts, path, strlen(path));
    int64_t skipped = 0;
    int more = 0;
    if (reader.fd < 0) {
        status = error_set(error, STATUS_BAD_INPUT, "cannot read records from '%.300s': %s", path,
                           strerror(errno));
        goto out;
    }
    if (!scan || !reader.bytes || !file) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        goto out;
    }
    char *line;
    size_t n;
    for (int64_t number = 1; (more = next_line(&reader, &line, &n)) > 0; number++) {
        struct error why;
        if (blank(line, n))
            continue;
        status = add_line(scan, set, line, n, file, number, &why);
        if (status == STATUS_ENVIRONMENT) {
            *error = why;
            goto out;
        }
        if (status != STATUS_OK && skipped++ < WARNINGS)
            fprintf(stderr, "assay: %s:%lld: skipped: %s\n", path, (long long)number, why.message);
        status = STATUS_OK;
    }
    if (more < 0)
        status = error_set(error, STATUS_BAD_INPUT, "cannot read records from '%.300s': %s", path,
                           errno == ENOMEM ? "a line of more than 64 MB" : strerror(errno));
    if (skipped > WARNINGS)
        fprintf(stderr, "assay: %s: %lld more lines skipped\n", path,
                (long long)(skipped - WARNINGS));
    set->skipped += skipped;
out:
    if (reader.fd >= 0)
        close(reader.fd);
    free(reader.bytes);
    free(scan);
    return status;
}

static int is_record_file(const struct dirent *entry)
{
    return fnmatch("*.jsonl", entry->d_name, FNM_PERIOD) == 0;
}

enum status record_set_read(struct record_set *set, const char *path, struct error *error)
{
    struct stat info;
    struct dirent **entries = NULL;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return read_file(set, path, error);
    const int count = scandir(path, &entries, is_record_file, alphasort);
    if (count < 0)
        return error_set(error, STATUS_BAD_INPUT, "cannot read the folder '%.300s': %s", path,
                         strerror(errno));
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        char *file = NULL;
        if (status == STATUS_OK && asprintf(&file, "%s/%s", path, entries[i]->d_name) < 0)
            status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        if (status == STATUS_OK)
            status = read_file(set, file, error);
        free(file);
        free(entries[i]);
    }
    free(entries);
    return status;
}

void record_set_forget(struct record_set *set)
{
    if (set->seen)
        memset(set->seen, 0, set->seen_size * sizeof *set->seen);
    set->seen_count = 0;
}

void record_set_release(struct record_set *set)
{
    free(set->records);
    free(set->samples);
    free(set->seen);
    text_pool_release(&set->texts);
    *set = (struct record_set){0};
}
