/* The commands of the program. A command parses its own options, prints its own errors with
 * command_error(), and returns the exit status. */
#ifndef ASSAY_HARNESS_COMMAND_H
#define ASSAY_HARNESS_COMMAND_H

#include "ref/status.h"

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* the words behind the command's name */
};

/* "assay: MESSAGE" on stderr; returns the error's status as an exit status. */
int command_error(const struct error *error);

int cmd_info(int argc, char **argv);
int cmd_golden(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_history(int argc, char **argv);
int cmd_bisect(int argc, char **argv);
int cmd_report(int argc, char **argv);

#endif
