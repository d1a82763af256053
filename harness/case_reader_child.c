#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "harness/case_reader_protocol.h"
#include "harness/hdf5_util.h"

/* Processor time: of opening, which takes a millisecond, and of one piece, which may have to
 * decompress a chunk. */
#define OPEN_MILLISECONDS 500
#define PIECE_MILLISECONDS 20000
/* Memory on top of what the program has: to open, and to read, where a few chunks come on top. */
#define OPEN_BYTES ((rlim_t)64 << 20)
#define READ_BYTES ((rlim_t)512 << 20)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0 /* a sanitizer needs its terabytes and its stderr */
#endif

static int to_parent; /* the only descriptor besides 0 to 2 */

/* ---- limits ---------------------------------------------------------------------------------- */

/* The end comes as SIGPROF, which nothing catches. */
static void limit_time(int milliseconds)
{
    const struct itimerval timer = {
        .it_value = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000}};
    setitimer(ITIMER_PROF, &timer, NULL);
}

static void pulse(void)
{
    limit_time(PIECE_MILLISECONDS);
}

static void limit_memory(rlim_t bytes)
{
    unsigned long pages = 0;
    FILE *statm = SANITIZED ? NULL : fopen("/proc/self/statm", "r");
    if (!statm)
        return;
    if (fscanf(statm, "%lu", &pages) == 1) {
        struct rlimit limit;
        getrlimit(RLIMIT_AS, &limit);
        const rlim_t wanted = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
        if (limit.rlim_max == RLIM_INFINITY || wanted < limit.rlim_max)
            limit.rlim_cur = wanted;
        setrlimit(RLIMIT_AS, &limit);
    }
    fclose(statm);
}

/* Nothing of the program stays but this: it must see its own pipes close, and a crash here must be
 * silent. */
static void leave_the_program(int socket)
{
    to_parent = dup2(socket, 3);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPROF, SIG_DFL);
    signal(SIGINT, SIG_IGN); /* the program decides; the child follows when its socket closes */
    signal(SIGQUIT, SIG_IGN);
    static const int ends[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGTERM,
                               SIGHUP,  SIGXCPU, SIGALRM, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        signal(ends[i], SIG_DFL);
    if (!SANITIZED)
        dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    close_range(4, ~0U, 0);
    limit_memory(OPEN_BYTES);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void send_reply(const struct reader_reply *reply)
{
    if (send(to_parent, reply, sizeof *reply, MSG_NOSIGNAL) != sizeof *reply)
        _exit(1);
}

static void receive(struct reader_request *request)
{
    limit_time(0);
    if (recv(to_parent, request, sizeof *request, 0) != sizeof *request)
        _exit(0);
    limit_time(PIECE_MILLISECONDS);
}

static enum status send_piece(void *data, int64_t at, int64_t length, struct error *error)
{
    (void)data, (void)error;
    struct reader_reply reply = {.status = STATUS_OK, .piece = true, .at = at, .length = length};
    struct reader_request request;
    send_reply(&reply);
    receive(&request); /* READER_GO_ON */
    return STATUS_OK;
}

/* ---- life ------------------------------------------------------------------------------------ */

void case_reader_child(int socket, void *window, const struct case_place *place,
                       const struct problem *output)
{
    static struct case_contents contents;
    struct reader_reply reply = {.status = STATUS_OK};
    leave_the_program(socket);
    limit_time(OPEN_MILLISECONDS);
    reply.status = output ? case_contents_open_output(&contents, place, output, &reply.error)
                          : case_contents_open(&contents, place, &reply.error);
    memcpy(window, &contents.about, sizeof contents.about);
    send_reply(&reply);
    if (reply.status != STATUS_OK)
        _exit(0);

    int64_t chunk = 0;
    for (int i = 0; i < CASE_TENSORS; i++)
        if (contents.tensors[i].chunk_bytes > chunk)
            chunk = contents.tensors[i].chunk_bytes;
    limit_memory(READ_BYTES + 4 * (rlim_t)chunk);

    for (;;) {
        struct reader_request request;
        receive(&request);
        memset(&reply, 0, sizeof reply);
        if (request.operation == READER_READ)
            reply.status =
                hdf5_tensor_read(&contents.tensors[request.tensor], request.first, request.count,
                                 window, WINDOW_ELEMENTS, send_piece, NULL, &reply.error);
        else if (request.operation == READER_RECORD)
            reply.status =
                case_contents_record(&contents, window, (size_t)request.count, &reply.error);
        else
            reply.status = case_contents_check_sums(&contents, pulse, &reply.checked, &reply.error);
        send_reply(&reply);
    }
}
