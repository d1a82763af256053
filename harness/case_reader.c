#include "harness/case_reader.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/case_reader_protocol.h"
#include "harness/hdf5_util.h"

_Static_assert(sizeof(struct case_about) <= WINDOW_BYTES, "the window is too small");

/* The child is gone, or sends nonsense: says how it ended. */
static enum status lost(struct case_reader *r, struct error *error)
{
    int how = 0;
    kill(r->pid, SIGKILL); /* of no effect where it has ended by itself */
    while (waitpid(r->pid, &how, 0) < 0 && errno == EINTR)
        ;
    r->pid = 0;
    if (WIFSIGNALED(how) && WTERMSIG(how) == SIGPROF)
        return error_set(error, STATUS_BAD_INPUT,
                         "'%s': damaged: the HDF5 library does not come to an end with it",
                         r->path);
    return error_set(error, STATUS_BAD_INPUT, "'%s': damaged: the HDF5 library crashes on it",
                     r->path);
}

/* Receives a reply and checks its form. STATUS_OK, or what the child or its end say. */
static enum status receive(struct case_reader *r, struct reader_reply *reply, struct error *error)
{
    ssize_t got;
    do
        got = recv(r->socket, reply, sizeof *reply, 0);
    while (got < 0 && errno == EINTR);
    if (got != sizeof *reply)
        return lost(r, error);
    if (reply->status == STATUS_OK)
        return STATUS_OK;
    if (reply->status != STATUS_BAD_INPUT && reply->status != STATUS_ENVIRONMENT)
        return lost(r, error);
    char message[sizeof reply->error.message];
    hdf5_printable(message, sizeof message, reply->error.message, sizeof message - 1);
    return error_set(error, reply->status, "'%s': %.800s", r->path, message);
}

static enum status request(struct case_reader *r, const struct reader_request *request,
                           struct error *error)
{
    if (r->pid == 0)
        return error_set(error, STATUS_BAD_INPUT, "'%s': cannot be read any more", r->path);
    if (send(r->socket, request, sizeof *request, MSG_NOSIGNAL) != sizeof *request)
        return lost(r, error);
    return STATUS_OK;
}

/* What the child found is input too. */
static bool about_is_valid(struct case_about *about)
{
    struct case_provenance *p = &about->provenance;
    struct error error;
    char *strings[] = {p->descriptor, p->fill,   p->version,
                       p->libraries,  p->commit, about->expected.type};
    const size_t sizes[] = {sizeof p->descriptor, sizeof p->fill,   sizeof p->version,
                            sizeof p->libraries,  sizeof p->commit, sizeof about->expected.type};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!memchr(strings[i], '\0', sizes[i]))
            return false;
    return problem_validate(&about->problem, &error) == STATUS_OK;
}

enum status case_reader_init(struct case_reader *r, const struct case_place *place,
                             const struct problem *output, struct case_about *about,
                             struct error *error)
{
    int ends[2] = {-1, -1};
    enum status status = STATUS_OK;
    struct reader_reply reply;
    memset(r, 0, sizeof *r);
    r->socket = -1;
    hdf5_printable(r->path, sizeof r->path, place->path, strlen(place->path));
    r->window = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->window == MAP_FAILED) {
        r->window = NULL;
        status = error_set(error, STATUS_ENVIRONMENT, "'%s': out of memory", r->path);
        goto out;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        status = error_set(error, STATUS_ENVIRONMENT, "'%s': no socket for the reader: %s", r->path,
                           strerror(errno));
        goto out;
    }
    r->socket = ends[0];
    const pid_t pid = fork();
    if (pid == 0)
        case_reader_child(ends[1], r->window, place, output);
    close(ends[1]);
    if (pid < 0) {
        status = error_set(error, STATUS_ENVIRONMENT, "'%s': no process for the reader: %s",
                           r->path, strerror(errno));
        goto out;
    }
    r->pid = pid;
    status = receive(r, &reply, error);
    if (status != STATUS_OK)
        goto out;
    memcpy(about, r->window, sizeof *about);
    if (!about_is_valid(about))
        status = lost(r, error);
out:
    if (status != STATUS_OK)
        case_reader_release(r);
    return status;
}

enum status case_reader_read(struct case_reader *r, enum case_tensor tensor, int64_t first,
                             int64_t count, int64_t elements, void *out, struct error *error)
{
    const struct reader_request wanted = {
        .operation = READER_READ, .tensor = tensor, .first = first, .count = count};
    const struct reader_request go_on = {.operation = READER_GO_ON};
    const size_t size = tensor == CASE_EXPECTED ? sizeof(double) : sizeof(float);
    struct reader_reply reply;
    int64_t done = 0;

    enum status status = request(r, &wanted, error);
    while (status == STATUS_OK) {
        status = receive(r, &reply, error);
        if (status != STATUS_OK || !reply.piece)
            break;
        if (reply.at != done || reply.length < 1 || reply.length > WINDOW_ELEMENTS ||
            reply.length > elements - done)
            return lost(r, error);
        memcpy((char *)out + (size_t)done * size, r->window, (size_t)reply.length * size);
        done += reply.length;
        status = request(r, &go_on, error);
    }
    if (status == STATUS_OK && done != elements)
        return lost(r, error);
    return status;
}

enum status case_reader_record(struct case_reader *r, char *record, size_t size,
                               struct error *error)
{
    assert(size > 0 && size <= WINDOW_BYTES);
    const struct reader_request wanted = {.operation = READER_RECORD, .count = (int64_t)size};
    struct reader_reply reply;
    enum status status = request(r, &wanted, error);
    if (status == STATUS_OK)
        status = receive(r, &reply, error);
    if (status != STATUS_OK)
        return status;
    memcpy(record, r->window, size);
    record[size - 1] = 0;
    return STATUS_OK;
}

enum status case_reader_check_sums(struct case_reader *r, int *checked, struct error *error)
{
    const struct reader_request wanted = {.operation = READER_SUMS};
    struct reader_reply reply;
    enum status status = request(r, &wanted, error);
    if (status == STATUS_OK)
        status = receive(r, &reply, error);
    if (status == STATUS_OK && checked)
        *checked = reply.checked;
    return status;
}

void case_reader_release(struct case_reader *r)
{
    if (r->pid > 0) {
        kill(r->pid, SIGKILL);
        while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (r->window) {
        if (r->socket >= 0)
            close(r->socket);
        munmap(r->window, WINDOW_BYTES);
    }
    memset(r, 0, sizeof *r);
    r->socket = -1;
}
