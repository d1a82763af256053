#include "harness/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void print_help(const struct option_set *set)
{
    printf("usage: assay %s %s\n\n%s\n", set->command, set->usage, set->details);
    if (set->count > 0)
        printf("\noptions:\n");
    for (size_t i = 0; i < set->count; i++) {
        char left[64];
        const struct option *o = &set->options[i];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-26s %s\n", left, o->help);
    }
}

static enum status set_number(const struct option *o, const char *text, struct error *error)
{
    char *end;
    errno = 0;
    if (o->type == OPTION_INTEGER) {
        const long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno || (double)v < o->least || (double)v > o->most)
            return error_set(error, STATUS_BAD_INPUT,
                             "option '--%s' is '%.40s': a whole number from %.0f to %.0f", o->name,
                             text, o->least, o->most);
        *(int64_t *)o->value = v;
        return STATUS_OK;
    }
    const double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || v < o->least || v > o->most)
        return error_set(error, STATUS_BAD_INPUT,
                         "option '--%s' is '%.40s': a number from %g to %g", o->name, text,
                         o->least, o->most);
    *(double *)o->value = v;
    return STATUS_OK;
}

static enum status set_seed(const struct option *o, const char *text, struct error *error)
{
    uint64_t *seed = o->value;
    if (strcmp(text, "random") == 0) {
        uint32_t r; /* short enough to be typed again */
        if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
            return error_set(error, STATUS_ENVIRONMENT, "cannot get a random seed: %s",
                             strerror(errno));
        *seed = r;
        return STATUS_OK;
    }
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno)
        return error_set(error, STATUS_BAD_INPUT,
                         "option '--%s' is '%.40s': a whole number or 'random'", o->name, text);
    return STATUS_OK;
}

static enum status set_value(const struct option *o, const char *text, struct error *error)
{
    switch (o->type) {
    case OPTION_FLAG:
        *(bool *)o->value = true;
        return STATUS_OK;
    case OPTION_STRING:
        *(const char **)o->value = text;
        return STATUS_OK;
    case OPTION_SEED:
        return set_seed(o, text, error);
    default:
        return set_number(o, text, error);
    }
}

enum status options_parse(const struct option_set *set, int argc, char **argv, int *words,
                          bool *helped, struct error *error)
{
    *words = 0;
    *helped = false;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            while (++i < argc)
                argv[(*words)++] = argv[i];
            return STATUS_OK;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(set);
            *helped = true;
            return STATUS_OK;
        }
        if (word[0] != '-' || word[1] == 0) {
            argv[(*words)++] = word;
            continue;
        }
        const size_t length = strcspn(word, "=");
        const struct option *found = NULL;
        for (size_t k = 0; k < set->count && !found; k++)
            if (word[1] == '-' && strlen(set->options[k].name) == length - 2 &&
                strncmp(word + 2, set->options[k].name, length - 2) == 0)
                found = &set->options[k];
        if (!found)
            return error_set(error, STATUS_BAD_INPUT, "unknown option '%.60s': see 'assay help %s'",
                             word, set->command);
        const char *value = word[length] == '=' ? word + length + 1 : NULL;
        if (found->type == OPTION_FLAG && value)
            return error_set(error, STATUS_BAD_INPUT, "option '--%s' takes no value", found->name);
        if (found->type != OPTION_FLAG && !value) {
            if (i + 1 >= argc)
                return error_set(error, STATUS_BAD_INPUT, "option '--%s' needs a value: --%s %s",
                                 found->name, found->name, found->argument);
            value = argv[++i];
        }
        const enum status status = set_value(found, value, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
