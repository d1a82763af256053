/* Status codes and the error message that travels with them.
 *
 * Every function that can fail for a reason outside the programmer's control returns an
 * `enum status` and, where that is not STATUS_OK, leaves one line in the caller's `struct error`:
 * lowercase, what is wrong first, the subject in quotes, then what to do. */
#ifndef ASSAY_REF_STATUS_H
#define ASSAY_REF_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* The values are the program's exit statuses, except STATUS_UNSUPPORTED, which never leaves the
 * program: it makes a `skipped` verdict. */
enum status {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* a check failed */
    STATUS_BAD_INPUT = 2,
    STATUS_ENVIRONMENT = 3, /* memory, disk, GPU */
    STATUS_UNSUPPORTED = 4
};

struct error {
    enum status status;
    char message[1024];
};

#if defined(__GNUC__)
#define ASSAY_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define ASSAY_PRINTF(f, a)
#endif

/* Writes the message and the status into `error` (may be NULL) and returns the status, so that a
 * failing function can end with `return error_set(...)`. */
enum status error_set(struct error *error, enum status status, const char *format, ...)
    ASSAY_PRINTF(3, 4);

/* Puts "`prefix`: " before the message already in `error`; returns its status. */
enum status error_prefix(struct error *error, const char *format, ...) ASSAY_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
