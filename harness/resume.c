#include "harness/resume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/implementation.h"
#include "harness/provenance.h"

struct resume_entry {
    json_t *record;
    const char *line; /* the record's */
    enum verdict verdict;
    size_t number;
};

static int by_line(const void *a, const void *b)
{
    const struct resume_entry *x = a, *y = b;
    const int order = strcmp(x->line, y->line);
    return order ? order : x->number < y->number ? -1 : x->number > y->number;
}

void resume_release(struct resume *r)
{
    for (size_t i = 0; i < r->count; i++)
        json_decref(r->entries[i].record);
    free(r->entries);
    *r = (struct resume){0};
}

static bool parse_verdict(const char *name, enum verdict *verdict)
{
    for (int v = 0; name && v <= VERDICT_SKIPPED; v++)
        if (strcmp(name, verdict_name((enum verdict)v)) == 0) {
            *verdict = (enum verdict)v;
            return true;
        }
    return false;
}

static bool add(struct resume *r, const char *text)
{
    json_t *record = json_loads(text, 0, NULL);
    const char *line = json_string_value(json_object_get(record, "reproduce"));
    enum verdict verdict;
    bool good = true;
    if (line && parse_verdict(json_string_value(json_object_get(record, "verdict")), &verdict)) {
        struct resume_entry *grown = realloc(r->entries, (r->count + 1) * sizeof *grown);
        good = grown != NULL;
        if (good) {
            r->entries = grown;
            r->entries[r->count] =
                (struct resume_entry){json_incref(record), line, verdict, r->count};
            r->count++;
        }
    }
    json_decref(record);
    return good;
}

enum status resume_read(struct resume *r, const char *path, struct error *error)
{
    *r = (struct resume){0};
    FILE *file = fopen(path, "r");
    if (!file && errno == ENOENT)
        return STATUS_OK;
    if (!file)
        return error_set(error, STATUS_BAD_INPUT, "cannot read '%.300s': %s", path,
                         strerror(errno));
    char *line = NULL;
    size_t size = 0;
    bool good = true;
    while (good && getline(&line, &size, file) >= 0)
        good = add(r, line);
    free(line);
    fclose(file);
    if (!good) {
        resume_release(r);
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the verdicts of '%.300s'",
                         path);
    }
    if (r->count > 0)
        qsort(r->entries, r->count, sizeof *r->entries, by_line);
    return STATUS_OK;
}

const json_t *resume_find(const struct resume *r, const char *reproduce, const char *identity,
                          enum verdict *verdict)
{
    size_t first = 0, end = r->count;
    while (first < end) { /* the first whose line is not before it */
        const size_t middle = first + (end - first) / 2;
        if (strcmp(r->entries[middle].line, reproduce) < 0)
            first = middle + 1;
        else
            end = middle;
    }
    const json_t *found = NULL;
    for (size_t i = first; i < r->count && strcmp(r->entries[i].line, reproduce) == 0; i++) {
        const json_t *record = r->entries[i].record;
        const char *its = json_string_value(json_object_get(record, "identity"));
        if (its && strcmp(its, identity) == 0) {
            found = record;
            *verdict = r->entries[i].verdict;
        }
    }
    return found;
}

static void add_text(char *identity, const char *text)
{
    const size_t n = strlen(identity);
    snprintf(identity + n, RESUME_IDENTITY_SIZE - n, "%s%s", n ? "+" : "", text);
}

static void add_file(char *identity, const char *path)
{
    char hash[24];
    struct stat info;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && provenance_file_hash(path, hash))
        add_text(identity, hash);
}

void resume_identity(const char *program, const struct case_source *source,
                     const char *implementation, char identity[RESUME_IDENTITY_SIZE])
{
    char text[IMPLEMENTATION_NAME_SIZE + 64], *next = NULL;
    struct stat info;
    identity[0] = 0;
    add_text(identity, program);
    if (strncmp(implementation, "plugin:", 7) == 0)
        add_file(identity, implementation + 7);
    if (strncmp(implementation, "exec:", 5) == 0) {
        snprintf(text, sizeof text, "%s", implementation + 5);
        for (char *word = strtok_r(text, " \t\"'", &next); word;
             word = strtok_r(NULL, " \t\"'", &next))
            add_file(identity, word);
    }
    if (source->file && stat(source->text, &info) == 0) {
        snprintf(text, sizeof text, "%lld.%lld.%09ld", (long long)info.st_size,
                 (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
        add_text(identity, text);
    }
}
