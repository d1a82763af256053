#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/record.h"

/* Writes all of it; on an error the file is cut back to what it was. */
static enum status write_whole(int fd, const char *path, const char *text, size_t n, off_t before,
                               struct error *error)
{
    size_t done = 0;
    while (done < n) {
        const ssize_t written = write(fd, text + done, n - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written > 0) {
            done += (size_t)written;
            continue;
        }
        const int e = errno;
        const bool cut = ftruncate(fd, before) == 0;
        return error_set(error, STATUS_ENVIRONMENT, "cannot append to '%.200s': %s%s", path,
                         written < 0 ? strerror(e) : "the disk is full",
                         cut ? "" : "; its last line is torn");
    }
    return STATUS_OK;
}

enum status record_check(const char *path, struct error *error)
{
    struct stat info;
    char *copy = strdup(path);
    const char *why = NULL;
    if (!copy)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    if (stat(path, &info) == 0)
        why = !S_ISREG(info.st_mode)    ? "not a file"
              : access(path, W_OK) != 0 ? strerror(errno)
                                        : NULL;
    else if (errno != ENOENT || !path[0] || access(dirname(copy), W_OK | X_OK) != 0)
        why = strerror(errno);
    free(copy);
    return why ? error_set(error, STATUS_BAD_INPUT, "cannot append to '%.200s': %s", path, why)
               : STATUS_OK;
}

enum status record_append(const char *path, const json_t *record, struct error *error)
{
    enum status status = STATUS_OK;
    struct stat info;
    char last = '\n', *line = NULL;
    int fd = -1;
    char *text = record ? json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const size_t n = text ? strlen(text) : 0;
    line = text ? malloc(n + 2) : NULL;
    if (!line) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        goto out;
    }
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0) {
        status = error_set(error, STATUS_ENVIRONMENT, "cannot append to '%.200s': %s", path,
                           strerror(errno));
        goto out;
    }
    if (flock(fd, LOCK_EX) != 0 || fstat(fd, &info) != 0) {
        status =
            error_set(error, STATUS_ENVIRONMENT, "cannot lock '%.200s': %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        status =
            error_set(error, STATUS_ENVIRONMENT, "cannot append to '%.200s': not a file", path);
        goto out;
    }
    if (info.st_size > 0 && pread(fd, &last, 1, info.st_size - 1) != 1)
        last = '\n';
    const size_t lead = last == '\n' ? 0 : 1;
    line[0] = '\n';
    memcpy(line + lead, text, n);
    line[lead + n] = '\n';
    status = write_whole(fd, path, line, lead + n + 1, info.st_size, error);
    if (status == STATUS_OK)
        fdatasync(fd); /* where the disk can; the line is there either way */
out:
    if (fd >= 0)
        close(fd);
    free(line);
    free(text);
    return status;
}
