#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/case_file.h"
#include "harness/hdf5_util.h"

#define PROBE_SECONDS 10

static enum status crashed(const char *path, const char *how, struct error *error)
{
    char name[200];
    return error_set(error, STATUS_BAD_INPUT,
                     "'%s': damaged: the HDF5 library %s when it is opened",
                     hdf5_printable(name, sizeof name, path, strlen(path)), how);
}

enum status case_file_probe(const char *path, struct error *error)
{
    struct error found = {0};
    int ends[2];
    if (pipe(ends) < 0)
        return error_set(error, STATUS_ENVIRONMENT, "no pipe: %s", strerror(errno));
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return error_set(error, STATUS_ENVIRONMENT, "no child process: %s", strerror(errno));
    }
    if (child == 0) {
        struct case_file *file = NULL;
        /* Default actions: a crash here has to be a silent death. */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        signal(SIGFPE, SIG_DFL);
        const int null = open("/dev/null", O_RDWR);
        dup2(null, STDERR_FILENO);
        found.status = case_file_open(&file, path, &found);
        case_file_free(file);
        _exit(write(ends[1], &found, sizeof found) == sizeof found ? 0 : 1);
    }
    close(ends[1]);
    struct pollfd ready = {.fd = ends[0], .events = POLLIN};
    int polled;
    do
        polled = poll(&ready, 1, PROBE_SECONDS * 1000);
    while (polled < 0 && errno == EINTR);
    const bool whole = polled > 0 && read(ends[0], &found, sizeof found) == sizeof found;
    close(ends[0]);
    if (!whole)
        kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (!whole)
        return crashed(path, polled == 0 ? "hangs" : "crashes", error);
    if (found.status != STATUS_OK && error)
        *error = found;
    return found.status;
}
