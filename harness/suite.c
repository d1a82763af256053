#include "harness/suite.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ref/fill.h"
#include "ref/random_problem.h"

static enum status add_one(struct suite *s, const char *name, const char *text, struct error *error)
{
    struct suite_entry *grown = realloc(s->entries, (s->count + 1) * sizeof *s->entries);
    if (!grown)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for a suite");
    s->entries = grown;
    grown += s->count;
    *grown = (struct suite_entry){.name = strdup(name), .text = strdup(text)};
    s->count++;
    if (!grown->name || !grown->text)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for a suite");
    return STATUS_OK;
}

void suite_release(struct suite *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->entries[i].name);
        free(s->entries[i].text);
    }
    free(s->entries);
    *s = (struct suite){0};
}

/* `name` with its * replaced. */
static void name_with(const char *name, const char *part, int part_length, char *out, size_t size)
{
    const char *star = strchr(name, '*');
    snprintf(out, size, "%.*s%.*s%s", star ? (int)(star - name) : (int)strlen(name), name,
             part_length, part, star ? star + 1 : "");
}

/* Where `name` has no *, each of several problems is named by its own text. */
static enum status add_random(struct suite *s, const char *name, const char *text,
                              struct error *error)
{
    uint64_t seed;
    int64_t first, last;
    enum status status = random_problem_parse(text, &seed, &first, &last, error);
    if (status == STATUS_OK && last - first >= RANDOM_MOST)
        status = error_set(error, STATUS_BAD_INPUT, "'%.60s' is more than %d problems at a time",
                           text, RANDOM_MOST);
    for (int64_t k = 0; status == STATUS_OK && k <= last - first; k++) {
        const int64_t i = first + k;
        char one[64], number[32], full[512];
        snprintf(one, sizeof one, RANDOM_PREFIX "%llu/%lld", (unsigned long long)seed,
                 (long long)i);
        snprintf(number, sizeof number, "%lld", (long long)i);
        if (strchr(name, '*'))
            name_with(name, number, (int)strlen(number), full, sizeof full);
        else
            snprintf(full, sizeof full, "%s", first == last ? name : one);
        status = add_one(s, full, one, error);
    }
    return status;
}

enum status suite_add(struct suite *s, const char *name, const char *text, struct error *error)
{
    return strncmp(text, RANDOM_PREFIX, strlen(RANDOM_PREFIX)) == 0
               ? add_random(s, name, text, error)
               : add_one(s, name, text, error);
}

/* One `key=value`. */
static enum status set_key(struct suite_entry *e, const char *word, struct error *error)
{
    const struct fill *fill;
    if ((e->fill[0] && strncmp(word, "fill=", 5) == 0) ||
        (e->has_seed && strncmp(word, "seed=", 5) == 0))
        return error_set(error, STATUS_BAD_INPUT, "key '%.4s' stands twice", word);
    if (strncmp(word, "fill=", 5) == 0) {
        const enum status status = fill_find(word + 5, &fill, error);
        if (status == STATUS_OK)
            snprintf(e->fill, sizeof e->fill, "%s", fill->name);
        return status;
    }
    if (strncmp(word, "seed=", 5) == 0 && word[5] >= '0' && word[5] <= '9') {
        char *end;
        errno = 0;
        e->seed = strtoull(word + 5, &end, 10);
        e->has_seed = true;
        if (*end == 0 && errno == 0)
            return STATUS_OK;
    }
    return error_set(error, STATUS_BAD_INPUT, "'%.60s' is not understood: fill=NAME or seed=N",
                     word);
}

static enum status add_glob(struct suite *s, const char *name, const char *pattern,
                            struct error *error)
{
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return error_set(error, STATUS_BAD_INPUT, "no file matches '%.200s'", pattern);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < found.gl_pathc && status == STATUS_OK; i++) {
        const char *path = found.gl_pathv[i], *slash = strrchr(path, '/');
        const char *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
        char full[512];
        name_with(name, base, dot ? (int)(dot - base) : (int)strlen(base), full, sizeof full);
        status = suite_add(s, full, path, error);
    }
    globfree(&found);
    return status;
}

static enum status add_line(struct suite *s, char *line, const char *path, struct error *error)
{
    char *save, *name = strtok_r(line, " \t\r\n", &save);
    if (!name || name[0] == '#')
        return STATUS_OK;
    char *text = strtok_r(NULL, " \t\r\n", &save), beside[1024];
    if (!text)
        return error_set(error, STATUS_BAD_INPUT, "'%.60s' has no case behind it", name);
    const bool is_glob = strncmp(text, "glob:", 5) == 0;
    if (is_glob)
        text += 5;
    if ((is_glob || strstr(text, ".h5")) && text[0] != '/') {
        const char *slash = strrchr(path, '/');
        snprintf(beside, sizeof beside, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, text);
        text = beside;
    }
    const size_t first = s->count;
    enum status status = is_glob ? add_glob(s, name, text, error) : suite_add(s, name, text, error);
    for (char *word; status == STATUS_OK && (word = strtok_r(NULL, " \t\r\n", &save));)
        for (size_t i = first; i < s->count && status == STATUS_OK; i++)
            status = set_key(&s->entries[i], word, error);
    for (size_t i = 0; i < first && status == STATUS_OK; i++)
        for (size_t k = first; k < s->count && status == STATUS_OK; k++)
            if (strcmp(s->entries[i].name, s->entries[k].name) == 0)
                status = error_set(error, STATUS_BAD_INPUT, "the name '%.60s' stands twice",
                                   s->entries[i].name);
    return status;
}

enum status suite_read(struct suite *s, const char *path, struct error *error)
{
    struct stat info; /* asked first, because opening a fifo waits for a writer */
    const bool exists = stat(path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode))
        return error_set(error, STATUS_BAD_INPUT, "suite '%.200s' is not a file", path);
    FILE *file = exists ? fopen(path, "r") : NULL;
    if (!file)
        return error_set(error, STATUS_BAD_INPUT, "cannot read suite '%.200s': %s", path,
                         strerror(errno));
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    int number = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (length = getline(&line, &size, file)) >= 0) {
        number++;
        status = strlen(line) == (size_t)length
                     ? add_line(s, line, path, error)
                     : error_set(error, STATUS_BAD_INPUT, "a zero byte: a suite is text");
        if (status != STATUS_OK)
            error_prefix(error, "%.200s:%d", path, number);
    }
    free(line);
    fclose(file);
    if (status == STATUS_OK && s->count == 0)
        return error_set(error, STATUS_BAD_INPUT, "suite '%.200s' names no case", path);
    return status;
}
