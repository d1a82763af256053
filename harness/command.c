#include "harness/command.h"

#include <stdio.h>

int command_error(const struct error *error)
{
    fflush(stdout);
    fprintf(stderr, "assay: %s\n", error->message);
    return (int)error->status;
}
