#include "ref/status.h"

#include <stdarg.h>
#include <stdio.h>

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        /* What a message quotes (a path, an argument, an attribute) may hold anything; it stays one
         * line, and moves no terminal. */
        for (char *c = error->message; *c; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                *c = '?';
    }
    return status;
}

enum status error_prefix(struct error *error, const char *format, ...)
{
    if (!error)
        return STATUS_ENVIRONMENT;
    char prefix[256], message[sizeof error->message];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    snprintf(message, sizeof message, "%s", error->message);
    snprintf(error->message, sizeof error->message, "%s: %.700s", prefix, message);
    return error->status;
}
