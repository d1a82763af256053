#include "harness/resume.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resume_entry {
    char *line;
    enum verdict verdict;
};

static int by_line(const void *a, const void *b)
{
    return strcmp(((const struct resume_entry *)a)->line, ((const struct resume_entry *)b)->line);
}

void resume_release(struct resume *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->entries[i].line);
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
        char *copy = strdup(line);
        good = grown && copy;
        if (grown)
            r->entries = grown;
        if (good)
            r->entries[r->count++] = (struct resume_entry){copy, verdict};
        else
            free(copy);
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

bool resume_find(const struct resume *r, const char *reproduce, enum verdict *verdict)
{
    const struct resume_entry key = {.line = (char *)(uintptr_t)reproduce};
    const struct resume_entry *found =
        r->count > 0 ? bsearch(&key, r->entries, r->count, sizeof *r->entries, by_line) : NULL;
    if (found)
        *verdict = found->verdict;
    return found != NULL;
}
