/* exec:COMMAND: a shell command that reads a case file and writes an output file. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/case_file.h"
#include "harness/implementation.h"

#define LONGEST_NAME ((int)sizeof "/output.h5")

struct exec_state {
    struct problem problem;
    struct params params;
    char *command; /* as given, after "exec:" */
    const char *folder;
};

static bool supports(const struct implementation *i, const struct problem *problem,
                     const struct run_options *options, char *reason, size_t reason_size)
{
    (void)i, (void)problem, (void)options, (void)reason, (void)reason_size;
    return true; /* the command finds out */
}

/* NOTE: no name is made of the process's number: TMPDIR may be shared with processes that have the
 * same one, in a container or on another machine. */
enum status implementation_exec_make_folder(char folder[PATH_MAX], struct error *error)
{
    const char *parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    const int n = snprintf(folder, PATH_MAX, "%s/assay-exec-XXXXXX", parent);
    const bool short_enough = n + LONGEST_NAME < PATH_MAX;
    if (short_enough && mkdtemp(folder))
        return STATUS_OK;
    folder[0] = 0;
    return error_set(error, STATUS_ENVIRONMENT,
                     "cannot make a temporary folder in '%.400s': %s (TMPDIR says where)", parent,
                     strerror(short_enough ? errno : ENAMETOOLONG));
}

static void path_in(const char *folder, const char *name, char path[PATH_MAX])
{
    const size_t n = strlen(folder);
    memcpy(path, folder, n);
    path[n] = '/';
    strcpy(path + n + 1, name);
}

/* NOTE: a signal handler calls it, too: all of its calls are async-signal-safe. */
void implementation_exec_clean(const char *folder)
{
    static const char *const names[] = {"case.h5", "output.h5"};
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        path_in(folder, names[i], path);
        unlink(path);
    }
    if (rmdir(folder) == 0 || (errno != ENOTEMPTY && errno != EEXIST))
        return;
    /* What the command put beside its output. */
    const pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", "--", folder, (char *)NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void release(void *state)
{
    struct exec_state *s = state;
    if (!s)
        return;
    free(s->command);
    free(s);
}

static enum status prepare(const struct implementation *i, const struct problem *problem,
                           const struct params *params, const struct run_options *options,
                           void **state, struct error *error)
{
    (void)options;
    struct exec_state *s = calloc(1, sizeof *s);
    *state = s;
    const char *command = i->name + strlen("exec:");
    size_t length = strlen(command);
    /* exec:'...' may arrive with its quotes, where they stood inside others. */
    if (length >= 2 && (command[0] == '\'' || command[0] == '"') &&
        command[length - 1] == command[0]) {
        command++;
        length -= 2;
    }
    if (!s || !(s->command = strndup(command, length)))
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    s->problem = *problem;
    s->params = *params;
    s->folder = i->folder;
    if (!s->folder) /* started by a build that does not give one */
        return error_set(error, STATUS_ENVIRONMENT, "no folder for the files of the command");
    return STATUS_OK;
}

static enum status write_case(const struct exec_state *s, const float *x, const char *path,
                              struct error *error)
{
    struct case_writer *writer;
    enum status status =
        case_writer_create(&writer, path, &s->problem, NULL, CASE_EXPECTED_NONE, error);
    if (status == STATUS_OK)
        status = case_writer_params(writer, &s->params, error);
    if (status == STATUS_OK)
        status = case_writer_input(writer, x, s->problem.batch, error);
    if (status == STATUS_OK)
        status = case_writer_commit(writer, error);
    case_writer_free(writer);
    return status;
}

/* Appends a path in single quotes; returns the end. */
static char *put_quoted(char *out, const char *path)
{
    *out++ = '\'';
    for (; *path; path++) {
        if (*path == '\'')
            out = stpcpy(out, "'\\'");
        *out++ = *path;
    }
    return stpcpy(out, "'");
}

/* The command with every {case} and {output} replaced by a path in single quotes. NULL when out of
 * memory. */
static char *expand(const char *command, const char *case_path, const char *output_path)
{
    const size_t longest = 4 * (strlen(case_path) + strlen(output_path)) + 2;
    size_t marks = 1;
    for (const char *p = command; *p; p++)
        marks += *p == '{';
    char *line = malloc(strlen(command) + marks * longest + 1), *out = line;
    if (!line)
        return NULL;
    while (*command) {
        const bool is_case = strncmp(command, "{case}", 6) == 0;
        const bool is_output = strncmp(command, "{output}", 8) == 0;
        if (is_case || is_output) {
            out = put_quoted(out, is_case ? case_path : output_path);
            command += is_case ? 6 : 8;
        } else {
            *out++ = *command++;
        }
    }
    *out = 0;
    return line;
}

static enum status run(void *state, const float *x, float *y, struct error *error)
{
    const struct exec_state *s = state;
    char case_path[PATH_MAX], output_path[PATH_MAX];
    path_in(s->folder, "case.h5", case_path);
    path_in(s->folder, "output.h5", output_path);
    unlink(output_path);
    enum status status = write_case(s, x, case_path, error);
    if (status != STATUS_OK)
        return status;
    char *line = expand(s->command, case_path, output_path);
    if (!line)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const int code = system(line);
    free(line);
    if (code == -1)
        return error_set(error, STATUS_ENVIRONMENT, "cannot start a shell: %s", strerror(errno));
    if (WIFSIGNALED(code))
        return error_set(error, STATUS_FAILED, "the command was ended by signal %d (%s)",
                         WTERMSIG(code), strsignal(WTERMSIG(code)));
    if (WEXITSTATUS(code) != 0)
        return error_set(error, STATUS_FAILED, "the command exited with status %d",
                         WEXITSTATUS(code));
    if (access(output_path, F_OK) != 0)
        return error_set(error, STATUS_FAILED, "the command ended well, but wrote no output file");
    struct output_file *output;
    status = output_file_open(&output, output_path, &s->problem, error);
    if (status == STATUS_OK)
        status = output_file_read(output, 0, s->problem.batch, y, error);
    output_file_free(output);
    if (status == STATUS_BAD_INPUT) /* the implementation's doing, not the user's request */
        error->status = status = STATUS_FAILED;
    return status;
}

enum status implementation_exec_init(struct implementation *implementation, const char *name,
                                     struct error *error)
{
    const char *const marks[] = {"{case}", "{output}"};
    for (int i = 0; i < 2; i++)
        if (!strstr(name, marks[i]))
            return error_set(error, STATUS_BAD_INPUT,
                             "the command '%.200s' lacks %s, where the path of its %s file is put",
                             name, marks[i], i ? "output" : "case");
    *implementation = (struct implementation){.name = name,
                                              .summary = "a shell command on case files",
                                              .cls = CLASS_FP32,
                                              .foreign = true,
                                              .supports = supports,
                                              .prepare = prepare,
                                              .run = run,
                                              .release = release};
    return STATUS_OK;
}
