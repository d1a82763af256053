/* libFuzzer target: any bytes as a case file.
 *
 * HDF5 1.10 itself crashes and hangs within seconds of this, so inputs are opened and read in a
 * child that hands its coverage back and is replaced when it dies; the input that it died of is
 * then tried again in a fresh child, and by case_file_open. A crash counts when
 *     - in the fresh child a sanitizer found it outside of HDF5, or anything of ours aborted, or
 *     - case_file_open, which has to survive what HDF5 does not, does not return one clean line.
 * Crashes inside HDF5 are counted and reported at the end. Seeds: tests/fuzz_seeds.c. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#include "harness/case_contents.h"

/* A compressed file may claim 1032 times its length; what is larger than this is opened only. */
#define READ_MAX ((int64_t)1 << 18)
#define COUNTERS_MAX (1 << 20)
#define INPUT_MAX (1 << 20)
/* HDF5 leaks: a child is replaced after so many inputs. */
#define INPUTS_OF_A_CHILD 1000

/* libFuzzer's counters. NOTE: in a file that is instrumented itself, these names would hide the
 * compiler's own, and no counter would be registered. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
extern uint8_t __start___sancov_cntrs[], __stop___sancov_cntrs[];

static struct shared {
    uint8_t counters[COUNTERS_MAX];
    uint8_t input[INPUT_MAX];
    size_t size;
    bool ours; /* the crash is not HDF5's */
} * shared;

static long library_crashes, library_hangs, not_again;

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_message(enum status status, const struct error *error)
{
    must(status == STATUS_BAD_INPUT || status == STATUS_ENVIRONMENT, "unexpected status");
    must(error->status == status, "the message is of another status");
    must(error->message[0] != '\0', "no message");
    for (const char *c = error->message; *c; c++)
        must(*c >= 0x20 && *c <= 0x7e, "the message is not one printable line");
}

/* ---- in the child ---------------------------------------------------------------------------- */

/* A report is HDF5's when one of the three innermost frames is: below it may stand a function of
 * the C library, and the sanitizer's in front of that. */
static void on_report(const char *report)
{
    const char *frame = strstr(report, "#0 ");
    const char *third = frame ? strstr(frame, "#2 ") : NULL;
    const char *end = third ? strchr(third, '\n') : NULL;
    const char *library = frame ? strstr(frame, "libhdf5") : NULL;
    shared->ours = !library || (end && library > end);
}

static int64_t delivered;

static enum status count_piece(void *data, int64_t at, int64_t length, struct error *error)
{
    (void)data, (void)error;
    must(at == delivered && length > 0, "a piece out of order");
    delivered += length;
    return STATUS_OK;
}

static void read_all(struct case_contents *contents)
{
    static double window[4096];
    struct error error = {0};
    int checked;
    const struct problem *p = &contents->about.problem;
    must(problem_validate(p, &error) == STATUS_OK, "the problem is not valid");
    for (int i = 0; i < CASE_TENSORS; i++) {
        struct hdf5_tensor *t = &contents->tensors[i];
        if (t->dataset <= 0 || t->count > READ_MAX)
            continue;
        const int64_t rows = t->rank ? t->shape[0] : 1;
        for (int64_t split = 0; split <= rows && split < 3; split++) {
            delivered = 0;
            enum status status =
                hdf5_tensor_read(t, 0, split, window, 4096, count_piece, NULL, &error);
            const int64_t first = delivered;
            delivered = 0;
            if (status == STATUS_OK)
                status = hdf5_tensor_read(t, split, rows - split, window, 4096, count_piece, NULL,
                                          &error);
            if (status == STATUS_OK)
                must(first + delivered == t->count, "not all was read");
            else
                check_message(status, &error);
        }
    }
    for (int i = 0; i < CASE_TENSORS; i++)
        if (contents->tensors[i].dataset > 0 && contents->tensors[i].count > READ_MAX)
            return;
    const enum status status = case_contents_check_sums(contents, NULL, &checked, &error);
    if (status != STATUS_OK)
        check_message(status, &error);
}

/* A crash of a child is no crash of the fuzzer: it writes no artifact. */
static void become_child(void)
{
    __sanitizer_set_death_callback(NULL);
    signal(SIGABRT, SIG_DFL);
    signal(SIGPROF, SIG_DFL);
}

static void try_input(void)
{
    static struct case_contents contents;
    const struct itimerval timer = {.it_value = {.tv_usec = 500000}};
    const struct case_place place = {.path = "image", .image = shared->input, .size = shared->size};
    struct error error = {0};
    setitimer(ITIMER_PROF, &timer, NULL);
    const enum status status = case_contents_open(&contents, &place, &error);
    if (status == STATUS_OK)
        read_all(&contents);
    else
        check_message(status, &error);
    case_contents_close(&contents);
}

/* Tries one input for each byte that comes through the socket. */
static void live(int socket)
{
    const size_t counters = (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs);
    char byte;
    become_child();
    __asan_set_error_report_callback(on_report);
    while (read(socket, &byte, 1) == 1) {
        memset(__start___sancov_cntrs, 0, counters);
        try_input();
        memcpy(shared->counters, __start___sancov_cntrs, counters);
        if (write(socket, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

/* ---- in the fuzzer --------------------------------------------------------------------------- */

/* HDF5 asks for absurd sizes, which have to fail and not to end the process, and leaks on many
 * broken files. Without symbols a report takes a millisecond and not a second. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:detect_leaks=0:symbolize=0:quarantine_size_mb=16";
}

static void at_end(void)
{
    fprintf(stderr,
            "crashes inside HDF5: %ld, hangs: %ld, all survived; %ld children died of more than "
            "their last input\n",
            library_crashes, library_hangs, not_again);
}

static int wait_for(pid_t pid)
{
    int how = 0;
    pid_t found;
    do
        found = waitpid(pid, &how, 0);
    while (found < 0 && errno == EINTR);
    must(found == pid, "the child is lost");
    return how;
}

static struct {
    pid_t pid; /* 0 = none */
    int socket, inputs;
} child;

/* Tries the input in a child; true where it survives. Else *how is how it ended. */
static bool survives(bool fresh, int *how)
{
    char byte = 0;
    if (child.pid && (fresh || child.inputs >= INPUTS_OF_A_CHILD)) {
        close(child.socket);
        wait_for(child.pid);
        child.pid = 0;
    }
    if (!child.pid) {
        int ends[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no sockets");
        child.pid = fork();
        must(child.pid >= 0, "no process");
        if (child.pid == 0) {
            close(ends[0]);
            live(ends[1]);
        }
        close(ends[1]);
        child.socket = ends[0];
        child.inputs = 0;
    }
    shared->ours = false;
    child.inputs++;
    ssize_t got = send(child.socket, &byte, 1, MSG_NOSIGNAL);
    if (got == 1)
        do
            got = read(child.socket, &byte, 1);
        while (got < 0 && errno == EINTR);
    if (got == 1)
        return true;
    close(child.socket);
    *how = wait_for(child.pid);
    child.pid = 0;
    return false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED, "no shared memory");
    must(__stop___sancov_cntrs - __start___sancov_cntrs <= COUNTERS_MAX, "too many counters");
    atexit(at_end);
    return 0;
}

/* The program in the place of a child that crashed. */
static void same_place(const struct case_place *place)
{
    struct error error = {0};
    struct case_file *file;
    become_child();
    const enum status status =
        case_file_open_image(&file, place->image, place->size, place->path, &error);
    must((status == STATUS_OK) == (file != NULL), "a file after an error");
    if (status != STATUS_OK)
        check_message(status, &error);
    case_file_free(file);
    _exit(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct case_place place = {.path = "image", .image = data, .size = size};
    int how;
    if (size > INPUT_MAX)
        return 0;
    memcpy(shared->input, data, size);
    shared->size = size;
    if (survives(false, &how)) {
        for (int64_t i = 0; i < __stop___sancov_cntrs - __start___sancov_cntrs; i++)
            __start___sancov_cntrs[i] |= shared->counters[i];
        return 0;
    }
    if (survives(true, &how)) {
        not_again++;
        return 0;
    }
    must(!shared->ours, "a crash of our own");
    must(!WIFSIGNALED(how) || WTERMSIG(how) != SIGABRT, "an abort of our own");
    const bool hang = WIFSIGNALED(how) && WTERMSIG(how) == SIGPROF;
    library_crashes += !hang;
    library_hangs += hang;

    const pid_t program = fork();
    must(program >= 0, "no process");
    if (program == 0)
        same_place(&place);
    must(wait_for(program) == 0, "the program does not survive");
    return 0;
}

#pragma clang attribute pop
