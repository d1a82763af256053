#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/command.h"
#include "harness/machine.h"
#include "harness/new_file.h"
#include "harness/worker.h"

static const struct command commands[] = {
    {"info", "machine, CPU, GPUs, libraries, implementations", cmd_info},
    {"golden", "make golden case files", cmd_golden},
    {"verify", "run implementations on cases: a verdict for each", cmd_verify},
    {"check", "compare an output file made elsewhere with a case", cmd_check},
    {"audit", "which wrong kernels would this data and this tolerance catch?", cmd_audit},
    {"replay", "run a failure capsule again", cmd_replay},
    {"bench", "verify, then time", cmd_bench},
    {"compare", "two sets of records: what became slower, faster, wrong", cmd_compare},
    {"history", "what became of an implementation over commits", cmd_history},
    {"bisect", "find the commit that made an implementation slower or wrong", cmd_bisect},
    {"report", "one self-contained HTML page with plots", cmd_report},
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void print_commands(FILE *to)
{
    fprintf(to, "usage: assay COMMAND [options]\n\n"
                "Verifies and times implementations of\n"
                "  y = sigmoid(scale * (softmax(conv_transpose2d(x, W) + conv_bias) + bias))\n\n"
                "commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\n`assay help COMMAND` shows its options. Try: assay verify home@mb1\n");
}

static int unknown_command(const char *name)
{
    struct error error;
    error_set(&error, STATUS_BAD_INPUT, "unknown command '%.40s': see 'assay help'", name);
    return command_error(&error);
}

/* Ctrl-C, a limit of time, or a batch system's warning leaves nothing that runs and no half-written
 * file behind, and still ends the program as a signal does. So does a reader of the results that
 * goes away: at the next write, and not in the middle of a file. */
static void on_interrupt(int number)
{
    worker_end_all();
    new_file_remove_temporaries();
    signal(number, SIG_DFL);
    raise(number);
}

static void handle_interrupts(void)
{
    static const int numbers[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                  SIGXCPU, SIGALRM, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const struct sigaction interrupt = {.sa_handler = on_interrupt};
        struct sigaction before;
        sigaction(numbers[i], NULL, &before);
        if (before.sa_handler != SIG_IGN) /* nohup, or a job in the background */
            sigaction(numbers[i], &interrupt, NULL);
    }
}

/* Where a standard stream is closed the next file would take its place, and what is printed would
 * end up in it. /dev/null, read only, so that printing remains the error that it is. */
static void fill_standard_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_commands(stderr);
        return STATUS_BAD_INPUT;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("assay %s (%s)\n", assay_version(), commit_get(NULL));
        return STATUS_OK;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        if (argc < 3) {
            print_commands(stdout);
            return STATUS_OK;
        }
        const struct command *command = find(argv[2]);
        char *help[] = {(char *)"--help", NULL};
        return command ? command->run(1, help) : unknown_command(argv[2]);
    }
    const struct command *command = find(name);
    if (!command)
        return unknown_command(name);
    return command->run(argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
    fill_standard_streams();
    handle_interrupts();
    signal(SIGPIPE, on_interrupt);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error of the write */
    /* For the workers: parallel work is done by OpenMP threads, each with BLAS calls of its own. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argv[2]);
    const int status = run(argc, argv);
    /* An earlier flush may have failed, and have left nothing to write. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_OK) {
        struct error error;
        error_set(&error, STATUS_ENVIRONMENT, "cannot write the results to standard output");
        return command_error(&error);
    }
    return status;
}
