#include "harness/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static enum status failed(const char *what, const char *path, int code, struct error *error)
{
    /* What the user can mend by asking for another path is a bad request. */
    static const int request[] = {ENOENT, ENOTDIR,      EACCES, EPERM,      EROFS,
                                  EISDIR, ENAMETOOLONG, ELOOP,  EOPNOTSUPP, EEXIST};
    enum status status = STATUS_ENVIRONMENT;
    for (size_t i = 0; i < sizeof request / sizeof *request; i++)
        if (code == request[i])
            status = STATUS_BAD_INPUT;
    return error_set(error, status, "'%.400s': %s: %s", path, what, strerror(code));
}

/* Files not yet committed, for new_file_remove_temporaries. */
static struct {
    const char *volatile name;
    volatile pid_t owner;
} temporaries[8];
#define TEMPORARIES (sizeof temporaries / sizeof *temporaries)

static void temporary_add(const char *name)
{
    for (size_t i = 0; i < TEMPORARIES; i++)
        if (!temporaries[i].name) {
            temporaries[i].owner = getpid();
            temporaries[i].name = name;
            return;
        }
}

static void temporary_drop(const char *name)
{
    for (size_t i = 0; i < TEMPORARIES; i++)
        if (temporaries[i].name == name)
            temporaries[i].name = NULL;
}

void new_file_remove_temporaries(void)
{
    for (size_t i = 0; i < TEMPORARIES; i++)
        if (temporaries[i].name && temporaries[i].owner == getpid())
            unlink(temporaries[i].name);
}

enum status new_file_init(struct new_file *file, const char *path, struct error *error)
{
    memset(file, 0, sizeof *file);
    file->fd = -1;
    struct stat info;
    enum status status = STATUS_OK;
    const bool exists = stat(path, &info) == 0;

    if (!path[0])
        return failed("cannot be created", path, ENOENT, error);
    if (exists && !S_ISREG(info.st_mode)) {
        status = error_set(error, STATUS_BAD_INPUT, "'%.400s': %s: name a file to write", path,
                           S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
        goto out;
    }
    /* A rename would replace a symbolic link and not what it names. */
    file->path = exists ? realpath(path, NULL) : strdup(path);
    if (!file->path || asprintf(&file->temporary, "%s.tmp.%ld", file->path, (long)getpid()) < 0) {
        file->temporary = NULL;
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
        goto out;
    }
    unlink(file->temporary); /* left by a process of our number that was killed */
    file->fd = open(file->temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
    if (file->fd < 0)
        status = failed("cannot be created", path, errno, error);
    else
        temporary_add(file->temporary);
out:
    if (status != STATUS_OK)
        new_file_release(file);
    return status;
}

enum status new_file_reserve(struct new_file *file, int64_t bytes, struct error *error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (uint64_t)bytes > limit.rlim_cur)
        return error_set(error, STATUS_ENVIRONMENT,
                         "'%.400s': needs %lld bytes, and files are limited to %llu (ulimit -f)",
                         file->path, (long long)bytes, (unsigned long long)limit.rlim_cur);
    if (bytes == 0 || fallocate(file->fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0)
        return STATUS_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
        const int code = errno;
        return error_set(error, STATUS_ENVIRONMENT, "'%.400s': no room for %lld bytes: %s",
                         file->path, (long long)bytes, strerror(code));
    }
    struct statvfs disk;
    if (fstatvfs(file->fd, &disk) == 0 && disk.f_blocks > 0 &&
        (uint64_t)bytes / disk.f_frsize > disk.f_bavail)
        return error_set(error, STATUS_ENVIRONMENT, "'%.400s': no room for %lld bytes: %s",
                         file->path, (long long)bytes, strerror(ENOSPC));
    return STATUS_OK;
}

bool new_file_write(int fd, const void *data, int64_t bytes, int64_t offset)
{
    const char *from = data;
    while (bytes > 0) {
        const size_t most = bytes < 1 << 30 ? (size_t)bytes : (size_t)1 << 30;
        const ssize_t written = pwrite(fd, from, most, offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written ? errno : ENOSPC;
            return false;
        }
        from += written;
        offset += written;
        bytes -= written;
    }
    return true;
}

static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    const int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd); /* best effort: the file is whole either way */
        close(fd);
    }
    free(copy);
}

enum status new_file_commit(struct new_file *file, struct error *error)
{
    if (fsync(file->fd) < 0)
        return failed("cannot be written", file->path, errno, error);
    if (rename(file->temporary, file->path) < 0)
        return failed("cannot be named", file->path, errno, error);
    temporary_drop(file->temporary);
    file->committed = true;
    sync_folder(file->path);
    return STATUS_OK;
}

void new_file_release(struct new_file *file)
{
    if (file->path && file->fd >= 0) {
        if (!file->committed)
            unlink(file->temporary);
        temporary_drop(file->temporary);
        close(file->fd);
    }
    free(file->temporary);
    free(file->path);
    memset(file, 0, sizeof *file);
    file->fd = -1;
}
