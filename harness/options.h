/* Command-line options: a table for each command, from which parsing and help are derived. */
#ifndef ASSAY_HARNESS_OPTIONS_H
#define ASSAY_HARNESS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ref/status.h"

enum option_type {
    OPTION_FLAG,    /* bool *, takes no value */
    OPTION_STRING,  /* const char ** */
    OPTION_INTEGER, /* int64_t *, within [least, most] */
    OPTION_REAL,    /* double *, within [least, most] */
    OPTION_SEED,    /* uint64_t *: a number or `random` */
};

struct option {
    const char *name; /* without the dashes */
    enum option_type type;
    void *value;          /* holds the default; changed where the option is given */
    const char *argument; /* what stands for the value in help */
    const char *help;
    double least, most;
};

struct option_set {
    const char *command;
    const char *usage;   /* what follows the command's name */
    const char *details; /* the paragraph below the usage */
    const struct option *options;
    size_t count;
};

/* Parses argv[0 .. argc): options anywhere, `--name value` or `--name=value`, `--` ends them. The
 * other words are moved to the front of argv and counted in *words. --help prints the help and sets
 * *helped. STATUS_BAD_INPUT names the offending word. */
enum status options_parse(const struct option_set *set, int argc, char **argv, int *words,
                          bool *helped, struct error *error);

#endif
