/* The worker's side: one implementation, one request after another. */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/clock.h"
#include "harness/statistics.h"
#include "harness/worker_protocol.h"

struct server {
    struct implementation implementation;
    char name[IMPLEMENTATION_NAME_SIZE];
    struct run_options options;
    struct arena arena;
    void *state;
};

/* Once it has prepared a problem an implementation supports it. */
static void set_answer(struct worker_answer *answer, enum worker_verb verb, enum status status,
                       const struct error *error)
{
    answer->status = status;
    answer->outcome = status == STATUS_OK                                    ? WORKER_DONE
                      : status == STATUS_UNSUPPORTED && verb == VERB_PREPARE ? WORKER_UNSUPPORTED
                                                                             : WORKER_FAILED;
    if (status != STATUS_OK)
        snprintf(answer->message, sizeof answer->message, "%s", error->message);
}

static void release(struct server *s)
{
    if (s->state)
        s->implementation.release(s->state);
    s->state = NULL;
    arena_release(&s->arena);
}

static enum status prepare(struct server *s, const struct problem *problem, int fd,
                           struct error *error)
{
    char reason[512] = "";
    release(s);
    enum status status = arena_map(&s->arena, fd, problem, error);
    if (status != STATUS_OK)
        return status;
    memset(s->arena.measurement, 0, sizeof *s->arena.measurement);
    s->arena.measurement->threads = s->options.threads;
    if (!s->implementation.supports(&s->implementation, problem, &s->options, reason,
                                    sizeof reason))
        return error_set(error, STATUS_UNSUPPORTED, "%s", reason);
    const struct params params = arena_params(&s->arena);
    const double start = clock_seconds();
    status = s->implementation.prepare(&s->implementation, &s->arena.problem, &params, &s->options,
                                       &s->state, error);
    s->arena.measurement->prepare_s = clock_seconds() - start;
    return status;
}

static void describe(struct server *s)
{
    if (s->implementation.describe)
        s->implementation.describe(s->state, s->arena.measurement);
}

/* Times run() by the host's clock, after one run that warms caches and threads. */
static enum status measure_by_clock(struct server *s, const struct measurement_plan *plan,
                                    struct error *error)
{
    struct measurement *m = s->arena.measurement;
    enum status status = s->implementation.run(s->state, s->arena.x, s->arena.y, error);
    const double start = clock_seconds();
    double conv_s = 0.0, epilogue_s = 0.0;
    m->count = 0;
    m->rotation = 0;
    while (status == STATUS_OK && !plan->profile &&
           !measurement_complete(plan, m->samples_s, m->count, clock_seconds() - start)) {
        arena_rotate_input(&s->arena, 1); /* other data for each sample */
        m->rotation++;
        arena_poison_output(&s->arena, 1);
        const double before = clock_seconds();
        status = s->implementation.run(s->state, s->arena.x, s->arena.y, error);
        m->samples_s[m->count++] = clock_seconds() - before;
        describe(s);
        conv_s += m->conv_s;
        epilogue_s += m->epilogue_s;
    }
    arena_rotate_input(&s->arena, -m->rotation); /* as the program left it */
    if (m->count > 0) {
        m->conv_s = conv_s / (double)m->count;
        m->epilogue_s = epilogue_s / (double)m->count;
    }
    return status;
}

static void serve(struct server *s, const struct worker_request *request, int fd,
                  struct worker_answer *answer)
{
    struct error error = {0};
    enum status status = STATUS_OK;
    const double start = clock_seconds();
    switch (request->verb) {
    case VERB_START:
        break;
    case VERB_PREPARE:
        status = prepare(s, &request->problem, fd, &error);
        answer->measures = !s->implementation.foreign || s->implementation.measure;
        if (status == STATUS_OK && s->implementation.measures)
            answer->measures = s->implementation.measures(s->state);
        answer->class_declared = status == STATUS_OK && s->implementation.declared;
        if (answer->class_declared)
            answer->cls = s->implementation.declared(s->state);
        break;
    case VERB_RUN:
        status = s->implementation.run(s->state, s->arena.x, s->arena.y, &error);
        break;
    case VERB_MEASURE:
        status = s->implementation.measure &&
                         (!s->implementation.measures || s->implementation.measures(s->state))
                     ? s->implementation.measure(s->state, s->arena.x, s->arena.y, &request->plan,
                                                 s->arena.measurement, &error)
                     : measure_by_clock(s, &request->plan, &error);
        /* Threads that spin for more work would disturb whoever is timed next. */
        omp_pause_resource_all(omp_pause_soft);
        break;
    case VERB_RELEASE:
        if (s->state && s->implementation.finish)
            status = s->implementation.finish(s->state, &error);
        release(s);
        break;
    }
    answer->seconds = clock_seconds() - start;
    if (request->verb == VERB_RUN && status == STATUS_OK)
        describe(s);
    set_answer(answer, request->verb, status, &error);
}

/* Receives a request and the descriptor that may come with it (-1: none). */
static bool receive(struct worker_request *request, int *fd)
{
    struct iovec iov = {.iov_base = request, .iov_len = sizeof *request};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(WORKER_SOCKET, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    *fd = -1;
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return n == (ssize_t)sizeof *request;
}

int worker_main(const char *folder)
{
    struct server server = {.arena = {.fd = -1}};
    struct worker_request request;
    struct error error;
    int fd;
    if (!receive(&request, &fd) || request.verb != VERB_START)
        return STATUS_BAD_INPUT;
    memcpy(server.name, request.implementation, sizeof server.name);
    server.options = request.options;
    if (implementation_resolve(server.name, &server.implementation, &error) != STATUS_OK)
        return STATUS_BAD_INPUT;
    server.implementation.folder = folder;
    omp_set_num_threads(server.options.threads);
    while (receive(&request, &fd)) {
        struct worker_answer answer = {0};
        serve(&server, &request, fd, &answer);
        if (send(WORKER_SOCKET, &answer, sizeof answer, MSG_NOSIGNAL) != (ssize_t)sizeof answer)
            break;
    }
    release(&server);
    return STATUS_OK;
}
