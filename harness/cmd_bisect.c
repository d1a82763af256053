/* assay bisect: git bisect, with the gate of bench as the judge.
 *
 * All happens in a work tree of its own, so that the caller's is not touched: the good commit is
 * built once and its binary kept; git bisect run then calls this program again (--step), which
 * builds the commit under test and times it in turn with the good one. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/command.h"
#include "harness/git.h"
#include "harness/options.h"
#include "harness/run_list.h"

#define SKIP 125 /* what git bisect run takes for "cannot be tested" */
#define ARGUMENTS 40

struct bisect {
    const char *good, *bad;
    const char *build;    /* shell command that makes the binary, run in the work tree */
    const char *artifact; /* the binary that it makes, seen from there */
    const char *step;     /* the kept good binary: this is a step */
    const char *implementation;
    int64_t threads;
    double threshold;
    char **cases;
    int case_count;
};

static int shell(const char *folder, const char *command)
{
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        if (folder && chdir(folder) != 0)
            _exit(127);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* One commit: 0 as fast as the good one, 1 slower or wrong, 125 cannot be said. */
static int step(const struct bisect *b, struct error *error)
{
    char threshold[32], threads[32], tested[PATH_MAX];
    if (shell(NULL, b->build) != 0 || access(b->artifact, X_OK) != 0) {
        fprintf(stderr, "assay: this commit does not build: skipped\n");
        return SKIP;
    }
    if (!realpath(b->artifact, tested)) {
        error_set(error, STATUS_ENVIRONMENT, "cannot find '%.200s': %s", b->artifact,
                  strerror(errno));
        return command_error(error);
    }
    snprintf(threshold, sizeof threshold, "%g", b->threshold);
    snprintf(threads, sizeof threads, "%lld", (long long)b->threads);
    char *argv[ARGUMENTS] = {
        "--against", (char *)b->step, "--binary",    tested,   "--impl", (char *)b->implementation,
        "--threads", threads,         "--threshold", threshold};
    int argc = 10;
    for (int i = 0; i < b->case_count && argc < ARGUMENTS; i++)
        argv[argc++] = b->cases[i];
    const int status = cmd_bench(argc, argv);
    return status == STATUS_OK || status == STATUS_FAILED ? status : SKIP;
}

/* A word for the command line that git hands to a shell. */
static void add_quoted(char *line, size_t size, const char *word)
{
    size_t n = strlen(line);
    n += (size_t)snprintf(line + n, size - n, " '");
    for (; *word && n + 8 < size; word++)
        n += (size_t)snprintf(line + n, size - n, *word == '\'' ? "'\\''" : "%c", *word);
    snprintf(line + n, size - n, "'");
}

/* What git runs for each commit. */
static void step_command(const struct bisect *b, const char *kept, char *line, size_t size)
{
    char self[PATH_MAX], threshold[32], threads[32];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(threshold, sizeof threshold, "%g", b->threshold);
    snprintf(threads, sizeof threads, "%lld", (long long)b->threads);
    const char *const words[] = {self,          "bisect",          "--step",     kept,
                                 "--build",     b->build,          "--artifact", b->artifact,
                                 "--impl",      b->implementation, "--threads",  threads,
                                 "--threshold", threshold,         "--"};
    line[0] = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        add_quoted(line, size, words[i]);
    for (int i = 0; i < b->case_count; i++)
        add_quoted(line, size, b->cases[i]);
}

/* Builds the good commit in the work tree and keeps its binary. */
static enum status keep_good(const struct bisect *b, const char *tree, const char *kept,
                             struct error *error)
{
    char command[3 * PATH_MAX] = "cp --";
    const char *const checkout[] = {"checkout", "--quiet", "--detach", b->good, NULL};
    if (git_run(tree, checkout) != 0)
        return error_set(error, STATUS_ENVIRONMENT, "git cannot check out '%.100s'", b->good);
    if (shell(tree, b->build) != 0)
        return error_set(error, STATUS_ENVIRONMENT,
                         "the good commit '%.100s' does not build: %.200s", b->good, b->build);
    add_quoted(command, sizeof command, b->artifact);
    add_quoted(command, sizeof command, kept);
    if (shell(tree, command) != 0)
        return error_set(error, STATUS_ENVIRONMENT,
                         "building '%.100s' did not make '%.200s': give --artifact", b->good,
                         b->artifact);
    return STATUS_OK;
}

/* Ctrl-C reaches git and what it runs, too; when they have ended the work tree is removed. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = number;
}

static enum status bisect(const struct bisect *b, struct error *error)
{
    char folder[] = "/tmp/assay-bisect-XXXXXX", tree[64], kept[64], line[8 * PATH_MAX],
         command[128];
    if (!mkdtemp(folder))
        return error_set(error, STATUS_ENVIRONMENT, "cannot make a folder in /tmp: %s",
                         strerror(errno));
    snprintf(tree, sizeof tree, "%s/tree", folder);
    snprintf(kept, sizeof kept, "%s/good", folder);
    const char *const add[] = {"worktree", "add", "--quiet", "--detach", tree, b->bad, NULL};
    const char *const begin[] = {"bisect", "start", b->bad, b->good, NULL};
    const char *const run[] = {"bisect", "run", "sh", "-c", line, NULL};
    const char *const reset[] = {"bisect", "reset", NULL};
    const char *const drop[] = {"worktree", "remove", "--force", tree, NULL};
    enum status status = STATUS_OK;
    const struct sigaction interrupt = {.sa_handler = on_interrupt};
    struct sigaction before;
    sigaction(SIGINT, NULL, &before);
    if (before.sa_handler != SIG_IGN)
        sigaction(SIGINT, &interrupt, NULL);
    step_command(b, kept, line, sizeof line);
    if (git_run(NULL, add) != 0)
        status =
            error_set(error, STATUS_BAD_INPUT, "git cannot make a work tree of '%.100s'", b->bad);
    if (status == STATUS_OK)
        status = keep_good(b, tree, kept, error);
    if (status == STATUS_OK && git_run(tree, begin) != 0)
        status = error_set(error, STATUS_BAD_INPUT,
                           "git cannot bisect between '%.100s' and '%.100s'", b->good, b->bad);
    if (status == STATUS_OK && git_run(tree, run) != 0)
        status = error_set(error, STATUS_FAILED, "git bisect ended without an answer");
    git_run(tree, reset);
    git_run(NULL, drop);
    snprintf(command, sizeof command, "rm -rf -- '%s'", folder);
    shell(NULL, command);
    sigaction(SIGINT, &before, NULL);
    if (interrupted)
        raise(SIGINT);
    return status;
}

/* What each step would refuse is refused before anything is built. */
static enum status check_request(const struct bisect *b, struct error *error)
{
    struct run_arguments arguments = run_arguments_default();
    struct run_list list;
    arguments.implementations = b->implementation;
    enum status status = run_list_init(&list, &arguments, b->cases, b->case_count, error);
    for (size_t i = 0; status == STATUS_OK && i < list.cases.count; i++) {
        const char *text = list.cases.entries[i].text;
        struct case_source source;
        if (strchr(text, '/') || strstr(text, ".h5")) /* seen from the work tree */
            continue;
        status = case_source_open(&source, text, list.fill, arguments.seed, error);
        case_source_release(&source);
    }
    run_list_release(&list);
    return status;
}

/* git would find out only when the good commit has been built. */
static enum status check_order(const struct bisect *b, char **argv, struct error *error)
{
    if (strcmp(b->good, b->bad) == 0)
        return error_set(
            error, STATUS_BAD_INPUT,
            "GOOD '%.100s' and BAD '%.100s' are the same commit, %s: nothing is between", argv[0],
            argv[1], b->good);
    if (!git_is_ancestor(b->good, b->bad))
        return error_set(
            error, STATUS_BAD_INPUT,
            "GOOD '%.100s' is no ancestor of BAD '%.100s': give the older commit first", argv[0],
            argv[1]);
    return STATUS_OK;
}

static enum status check(struct bisect *b, int words, char **argv, struct error *error)
{
    static char commits[2][GIT_COMMIT_DIGITS + 1];
    const int first = b->step ? 0 : 2;
    if (words < first + 1)
        return error_set(error, STATUS_BAD_INPUT,
                         "bisect takes GOOD, BAD and a case, got %d words: see 'assay help bisect'",
                         words);
    if (words - first > ARGUMENTS - 10)
        return error_set(error, STATUS_BAD_INPUT, "too many cases: at most %d", ARGUMENTS - 10);
    for (int i = 0; i < first; i++)
        if (!git_resolve(argv[i], commits[i]))
            return error_set(error, STATUS_BAD_INPUT, "'%.100s' is no commit that git knows",
                             argv[i]);
    b->good = commits[0];
    b->bad = commits[1];
    b->cases = argv + first;
    b->case_count = words - first;
    if (b->step)
        return STATUS_OK;
    const enum status status = check_order(b, argv, error);
    return status == STATUS_OK ? check_request(b, error) : status;
}

int cmd_bisect(int argc, char **argv)
{
    struct bisect b = {.build = "make -s",
                       .artifact = "build/assay",
                       .implementation = "cpu-gemm",
                       .threads = 1,
                       .threshold = 2.0};
    const struct option options[] = {
        {"impl", OPTION_STRING, &b.implementation, "NAME,...", "what is timed (default cpu-gemm)",
         0, 0},
        {"build", OPTION_STRING, &b.build, "COMMAND",
         "makes the binary in the top folder (default 'make -s')", 0, 0},
        {"artifact", OPTION_STRING, &b.artifact, "PATH",
         "the binary that it makes (default build/assay)", 0, 0},
        {"threads", OPTION_INTEGER, &b.threads, "N", "CPU threads (default 1)", 1, 4096},
        {"threshold", OPTION_REAL, &b.threshold, "PCT",
         "SLOWER than the good commit by more than PCT % is bad (default 2)", 0.0, 1e6},
        {"step", OPTION_STRING, &b.step, "BINARY",
         "what git bisect calls: build here, compare with BINARY", 0, 0},
    };
    const struct option_set set = {"bisect", "[options] GOOD BAD CASE...",
                                   "Finds the first commit after GOOD, up to BAD, whose build is "
                                   "SLOWER than GOOD's, or fails\n"
                                   "verification. Works in a work tree of its own under /tmp; a "
                                   "commit that does not build is\n"
                                   "skipped.",
                                   options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK)
        status = check(&b, words, argv, &error);
    if (status == STATUS_OK && b.step)
        return step(&b, &error);
    if (status == STATUS_OK)
        status = bisect(&b, &error);
    return status == STATUS_OK ? STATUS_OK : command_error(&error);
}
