#include "harness/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/clock.h"
#include "harness/strays.h"
#include "harness/worker_protocol.h"

/* What the machine keeps for everybody else. */
#define MEMORY_RESERVE ((size_t)192 << 20)
/* Between looks at the worker's memory. */
#define WATCH_MS 200
/* How long a signal that ends the program waits for what it has killed. */
#define END_ALL_MS 2000

struct worker {
    pid_t pid; /* 0: reaped, or not started */
    int socket;
    char folder[PATH_MAX]; /* of an exec:'s files; "": none */
    size_t memory_limit;   /* 0: none */
    struct worker *next;   /* of all that live */
};

/* Who lives, so that they are not taken for somebody's orphans. */
static struct worker *live_workers;
static volatile pid_t workers_owner; /* whose they are: a fork has the list, too */

static int list_live(pid_t *pids, int room)
{
    int count = 0;
    for (const struct worker *w = live_workers; w && count < room; w = w->next)
        if (w->pid != 0)
            pids[count++] = w->pid;
    return count;
}

int worker_kill_strays(struct worker *w, double grace_s)
{
    pid_t known[256];
    const int count = list_live(known, 256);
    return strays_kill(w ? w->pid : 0, known, count, grace_s);
}

bool worker_alive(const struct worker *worker)
{
    return worker && worker->pid != 0;
}

/* Kills the process, its group, and whatever it started that left the group. */
static int end_process(struct worker *w)
{
    int status = 0;
    kill(-w->pid, SIGSTOP); /* so that it starts no more */
    kill(w->pid, SIGSTOP);
    worker_kill_strays(w, 0.0);
    kill(-w->pid, SIGKILL);
    kill(w->pid, SIGKILL);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    w->pid = 0;
    worker_kill_strays(NULL, 0.0);
    return status;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    if (w->socket >= 0)
        close(w->socket);
    if (w->pid != 0)
        end_process(w);
    if (w->folder[0])
        implementation_exec_clean(w->folder);
    for (struct worker **at = &live_workers; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
}

/* NOTE: runs in a signal handler: no memory is allocated, nothing is locked. */
void worker_end_all(void)
{
    if (getpid() != workers_owner)
        return;
    for (const struct worker *w = live_workers; w; w = w->next)
        if (w->pid != 0) {
            kill(-w->pid, SIGKILL);
            kill(w->pid, SIGKILL);
        }
    int left = END_ALL_MS;
    for (const struct worker *w = live_workers; w; w = w->next) {
        /* What the worker had started becomes a child of this process, of the same group. */
        pid_t got = 0;
        while (w->pid != 0 && left > 0 && (got = waitpid(-w->pid, NULL, WNOHANG)) >= 0)
            if (got == 0) {
                const struct timespec wait = {.tv_nsec = 1000000};
                nanosleep(&wait, NULL);
                left--;
            }
        if (w->folder[0])
            implementation_exec_clean(w->folder);
    }
}

/* In the child, before exec: only async-signal-safe calls. */
static void become_worker(const char *binary, int socket, const char *folder, pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(3);
    if (socket == WORKER_SOCKET)
        fcntl(socket, F_SETFD, 0);
    else if (dup2(socket, WORKER_SOCKET) < 0)
        _exit(3);
    /* Whatever an implementation prints must not mix with results. */
    dup2(STDERR_FILENO, STDOUT_FILENO);
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
        /* What the program has open, and what it was started with, is nobody else's. */
#ifdef SYS_close_range
    syscall(SYS_close_range, WORKER_SOCKET + 1, ~0u, 0);
#endif
    putenv((char *)STRAYS_MARK);
    char *const argv[] = {(char *)"assay", (char *)"worker", folder[0] ? (char *)folder : NULL,
                          NULL};
    execv(binary ? binary : "/proc/self/exe", argv);
    _exit(3);
}

static enum status start_process(struct worker *w, const char *binary, struct error *error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(error, STATUS_ENVIRONMENT, "cannot make a socket pair: %s",
                         strerror(errno));
    w->socket = pair[0];
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become_worker(binary, pair[1], w->folder, parent);
    const int e = errno;
    close(pair[1]);
    if (pid < 0)
        return error_set(error, STATUS_ENVIRONMENT, "cannot start a process: %s", strerror(e));
    setpgid(pid, pid); /* as the child does: whoever comes first */
    w->pid = pid;
    return STATUS_OK;
}

static enum status send_start(const struct worker *w, const char *implementation,
                              const struct run_options *options, struct error *error)
{
    struct worker_request request = {.verb = VERB_START, .options = *options};
    snprintf(request.implementation, sizeof request.implementation, "%s", implementation);
    if (send(w->socket, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request)
        return STATUS_OK;
    return error_set(error, STATUS_ENVIRONMENT, "cannot speak to a new process: %s",
                     strerror(errno));
}

enum status worker_create(struct worker **worker, const char *binary, const char *implementation,
                          const struct run_options *options, size_t memory_limit,
                          struct error *error)
{
    strays_adopt();
    *worker = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    w->socket = -1;
    w->memory_limit = memory_limit;
    /* Listed first, so that a signal finds the folder as soon as it is made. */
    workers_owner = getpid();
    w->next = live_workers;
    live_workers = w;
    enum status status = STATUS_OK;
    if (strncmp(implementation, "exec:", 5) == 0)
        status = implementation_exec_make_folder(w->folder, error);
    if (status == STATUS_OK)
        status = start_process(w, binary, error);
    if (status == STATUS_OK)
        status = send_start(w, implementation, options, error);
    if (status == STATUS_OK)
        *worker = w;
    else
        worker_free(w);
    return status;
}

/* Sends a request, with a file descriptor where fd >= 0. */
static bool send_request(int socket, const struct worker_request *request, int fd)
{
    struct iovec iov = {.iov_base = (void *)request, .iov_len = sizeof *request};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *request;
}

static void describe_end(struct worker *w, struct worker_answer *answer)
{
    /* The process may be ending by itself just now; its own status tells more than our signal. */
    int status = 0;
    for (int tries = 0; tries < 200; tries++) {
        const pid_t done = waitpid(w->pid, &status, WNOHANG);
        if (done == w->pid) {
            kill(-w->pid, SIGKILL);
            w->pid = 0;
            worker_kill_strays(NULL, 0.0);
            break;
        }
        const struct timespec wait = {.tv_nsec = 10000000};
        nanosleep(&wait, NULL);
    }
    if (w->pid != 0)
        status = end_process(w);
    answer->outcome = WORKER_CRASHED;
    if (WIFSIGNALED(status))
        snprintf(answer->message, sizeof answer->message, "ended by signal %d, SIG%s (%s)%s",
                 WTERMSIG(status),
                 sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?",
                 strsignal(WTERMSIG(status)),
                 WTERMSIG(status) == SIGKILL
                     ? ": not sent by assay; the kernel does this when memory runs out"
                     : "");
    else
        snprintf(answer->message, sizeof answer->message,
                 "exited with status %d before it had answered", WEXITSTATUS(status));
}

/* True, with the answer, where the worker holds more memory than it may, or the machine has none
 * left; the worker is then ended before the kernel ends somebody else. */
static bool out_of_memory(struct worker *w, struct worker_answer *answer)
{
    const size_t available = memory_available();
    const bool machine = available < MEMORY_RESERVE;
    if (!machine && w->memory_limit == 0)
        return false;
    const size_t held = strays_memory(w->pid);
    if (!machine && held <= w->memory_limit)
        return false;
    end_process(w);
    answer->outcome = WORKER_MEMORY;
    if (machine)
        snprintf(answer->message, sizeof answer->message,
                 "out of memory: killed while it held %.2f GB and the machine had %.2f GB left",
                 (double)held * 1e-9, (double)available * 1e-9);
    else
        snprintf(answer->message, sizeof answer->message,
                 "out of memory: killed while it held %.2f GB of the %.2f GB allowed by --memory",
                 (double)held * 1e-9, (double)w->memory_limit * 1e-9);
    return true;
}

/* What the worker's side may say; the implementation can write to the socket, too. */
static bool is_answer(const struct worker_request *request, const struct worker_answer *got)
{
    switch (got->outcome) {
    case WORKER_DONE:
        return true;
    case WORKER_UNSUPPORTED:
        return request->verb == VERB_PREPARE;
    case WORKER_FAILED:
        return got->status > STATUS_OK && got->status <= STATUS_UNSUPPORTED;
    default:
        return false; /* the other outcomes are this side's to find */
    }
}

/* Sends a request and waits for the answer, the end of the process, or the end of the time. */
static void ask(struct worker *w, const struct worker_request *request, int fd, double timeout_s,
                struct worker_answer *answer)
{
    *answer = (struct worker_answer){.outcome = WORKER_CRASHED};
    if (!send_request(w->socket, request, fd)) {
        describe_end(w, answer);
        return;
    }
    const double deadline = clock_seconds() + timeout_s;
    for (;;) {
        const double left = deadline - clock_seconds();
        struct pollfd poller = {.fd = w->socket, .events = POLLIN};
        const int ready = poll(&poller, 1,
                               left <= 0.0             ? 0
                               : left * 1e3 < WATCH_MS ? (int)(left * 1e3) + 1
                                                       : WATCH_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0 && left <= 0.0) {
            end_process(w);
            answer->outcome = WORKER_TIMEOUT;
            snprintf(answer->message, sizeof answer->message, "killed after %g s", timeout_s);
            return;
        }
        if (ready == 0 && out_of_memory(w, answer))
            return;
        if (ready == 0)
            continue;
        struct worker_answer got;
        const ssize_t n = recv(w->socket, &got, sizeof got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            describe_end(w, answer);
            return;
        }
        if (n != (ssize_t)sizeof got || !is_answer(request, &got)) {
            end_process(w);
            snprintf(answer->message, sizeof answer->message,
                     "killed: it sent what is no answer to the request");
            return;
        }
        got.message[sizeof got.message - 1] = 0;
        *answer = got;
        return;
    }
}

void worker_prepare(struct worker *w, const struct arena *arena, double timeout_s,
                    struct worker_answer *answer)
{
    const struct worker_request request = {.verb = VERB_PREPARE, .problem = arena->problem};
    ask(w, &request, arena->fd, timeout_s, answer);
}

void worker_run(struct worker *w, double timeout_s, struct worker_answer *answer)
{
    const struct worker_request request = {.verb = VERB_RUN};
    ask(w, &request, -1, timeout_s, answer);
}

void worker_measure(struct worker *w, const struct measurement_plan *plan, double timeout_s,
                    struct worker_answer *answer)
{
    const struct worker_request request = {.verb = VERB_MEASURE, .plan = *plan};
    ask(w, &request, -1, timeout_s, answer);
}

void worker_release(struct worker *w, double timeout_s, struct worker_answer *answer)
{
    const struct worker_request request = {.verb = VERB_RELEASE};
    ask(w, &request, -1, timeout_s, answer);
}

bool worker_freeze(struct worker *w)
{
    int status;
    if (w->pid == 0)
        return false;
    kill(-w->pid, SIGSTOP);
    kill(w->pid, SIGSTOP);
    pid_t got;
    while ((got = waitpid(w->pid, &status, WUNTRACED)) < 0 && errno == EINTR)
        ;
    if (got == w->pid && WIFSTOPPED(status))
        return true;
    w->pid = 0; /* it had ended */
    worker_kill_strays(NULL, 0.0);
    return false;
}

void worker_thaw(struct worker *w)
{
    if (w->pid == 0)
        return;
    kill(-w->pid, SIGCONT);
    kill(w->pid, SIGCONT);
}
