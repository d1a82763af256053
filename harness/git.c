#include "harness/git.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 64

/* Starts git with its standard output on `out` (-1: ours). */
static pid_t start(const char *folder, const char *const *words, int out)
{
    const char *argv[WORDS + 2] = {"git"};
    for (int i = 0; words[i] && i < WORDS; i++)
        argv[i + 1] = words[i];
    fflush(NULL);
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    const int nothing = open("/dev/null", O_RDWR);
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    if (out >= 0) {
        dup2(out, STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
    }
    if (folder && chdir(folder) != 0)
        _exit(127);
    setenv("TZ", "UTC", 1);
    execvp("git", (char *const *)argv);
    _exit(127);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Reads all of git's output into memory; NULL where git fails. */
static char *read_all(const char *const *words)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return NULL;
    const pid_t pid = start(NULL, words, pipe_fds[1]);
    close(pipe_fds[1]);
    size_t used = 0, size = 4096;
    char *text = malloc(size);
    while (text && pid > 0) {
        if (used + 1 == size) {
            char *grown = realloc(text, size *= 2);
            if (!grown)
                break;
            text = grown;
        }
        const ssize_t n = read(pipe_fds[0], text + used, size - used - 1);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    close(pipe_fds[0]);
    if (pid <= 0 || wait_for(pid) != 0 || !text) {
        free(text);
        return NULL;
    }
    text[used] = 0;
    return text;
}

bool git_read(const char *const *words, char *out, size_t size)
{
    char *text = read_all(words);
    if (!text)
        return false;
    text[strcspn(text, "\n")] = 0;
    snprintf(out, size, "%s", text);
    free(text);
    return out[0] != 0;
}

int git_run(const char *folder, const char *const *words)
{
    const pid_t pid = start(folder, words, -1);
    return pid > 0 ? wait_for(pid) : -1;
}

bool git_resolve(const char *revision, char commit[GIT_COMMIT_DIGITS + 1])
{
    char name[256];
    if (revision[0] == '-' || strlen(revision) + 16 > sizeof name)
        return false;
    snprintf(name, sizeof name, "%s^{commit}", revision);
    const char *const words[] = {"rev-parse", "--verify", "--quiet", name, NULL};
    char full[96];
    if (!git_read(words, full, sizeof full) || strlen(full) < GIT_COMMIT_DIGITS)
        return false;
    memcpy(commit, full, GIT_COMMIT_DIGITS);
    commit[GIT_COMMIT_DIGITS] = 0;
    return true;
}

bool git_commit_time(const char *revision, char time[32])
{
    char commit[GIT_COMMIT_DIGITS + 1];
    if (!git_resolve(revision, commit))
        return false;
    const char *const words[] = {
        "show", "-s", "--no-patch", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
        commit, NULL};
    return git_read(words, time, 32);
}

char *git_all_commits(void)
{
    const char *const words[] = {"rev-list", "--all", "--date-order", "--reverse", NULL};
    char *text = read_all(words);
    size_t used = 0;
    for (char *line = text; line && *line;) {
        const size_t length = strcspn(line, "\n");
        const size_t keep = length < GIT_COMMIT_DIGITS ? length : GIT_COMMIT_DIGITS;
        const char end = line[length];
        memmove(text + used, line, keep);
        text[used + keep] = '\n';
        used += keep + 1;
        line += length + (end != 0);
    }
    if (text)
        text[used] = 0;
    return text;
}

bool git_is_ancestor(const char *ancestor, const char *commit)
{
    const char *const words[] = {"merge-base", "--is-ancestor", ancestor, commit, NULL};
    char *text = read_all(words); /* empty: the exit status is the answer */
    const bool is = text != NULL;
    free(text);
    return is;
}

long git_count_between(const char *from, const char *to)
{
    char range[128], count[32];
    snprintf(range, sizeof range, "%.48s..%.48s", from, to);
    const char *const words[] = {"rev-list", "--count", range, NULL};
    return from[0] != '-' && git_read(words, count, sizeof count) ? atol(count) : -1;
}
