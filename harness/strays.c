#include "harness/strays.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/clock.h"

/* One walk sees at most so many processes; what is beyond is seen by the next. */
#define PROCESSES 8192
/* Walks, where new processes keep coming. */
#define ROUNDS 200
/* Told apart when they are counted. */
#define SEEN 1024

struct process {
    pid_t pid, parent;
    char state;
    unsigned long long start; /* clock ticks since boot: tells two processes of one number apart */
};

/* Descendants from before the first worker. */
static struct process *inherited;
static int inherited_count;

/* A small file of /proc, 0-terminated; its length, or -1. */
static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n;
}

static int list_processes(struct process *list)
{
    DIR *folder = opendir("/proc");
    int count = 0;
    for (struct dirent *e; folder && count < PROCESSES && (e = readdir(folder));) {
        char text[512];
        int parent;
        struct process p = {.pid = (pid_t)atoi(e->d_name)};
        if (!isdigit((unsigned char)e->d_name[0]) ||
            read_proc(p.pid, "stat", text, sizeof text) < 0)
            continue;
        /* "PID (name) S PPID ...", the start is the 22nd: the name may hold anything, so the last
         * parenthesis counts. */
        const char *end = strrchr(text, ')');
        if (!end || sscanf(end + 1,
                           " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                           "%*s %llu",
                           &p.state, &parent, &p.start) != 3)
            continue;
        p.parent = (pid_t)parent;
        list[count++] = p;
    }
    if (folder)
        closedir(folder);
    return count;
}

/* Climbs from p; bounded, because the list is not taken at one instant. */
static bool descends_from(const struct process *list, int count, pid_t pid, pid_t ancestor)
{
    for (int depth = 0; depth < 64 && pid > 1; depth++) {
        pid_t parent = 0;
        for (int i = 0; i < count; i++)
            if (list[i].pid == pid)
                parent = list[i].parent;
        if (parent == ancestor)
            return true;
        pid = parent;
    }
    return false;
}

static void remember_inherited(void)
{
    struct process *list = malloc(PROCESSES * sizeof *list);
    const int count = list ? list_processes(list) : 0;
    inherited = malloc((size_t)count * sizeof *inherited);
    for (int i = 0; inherited && i < count; i++)
        if (descends_from(list, count, list[i].pid, getpid()))
            inherited[inherited_count++] = list[i];
    free(list);
}

static bool is_inherited(const struct process *p)
{
    for (int i = 0; i < inherited_count; i++)
        if (inherited[i].pid == p->pid && inherited[i].start == p->start)
            return true;
    return false;
}

void strays_adopt(void)
{
    static bool adopted;
    if (!adopted)
        remember_inherited();
    adopted = true;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static bool is_marked(pid_t pid)
{
    static char text[1 << 16];
    const ssize_t n = read_proc(pid, "environ", text, sizeof text);
    for (const char *word = text; n > 0 && word < text + n; word += strlen(word) + 1)
        if (strcmp(word, STRAYS_MARK) == 0)
            return true;
    return false;
}

static bool has_other_executable(pid_t pid)
{
    char path[64], theirs[1024], ours[1024];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    const ssize_t a = readlink(path, theirs, sizeof theirs);
    const ssize_t b = readlink("/proc/self/exe", ours, sizeof ours);
    return a > 0 && b > 0 && (a != b || memcmp(theirs, ours, (size_t)a) != 0);
}

static bool is_known(pid_t pid, const pid_t *known, int count)
{
    for (int i = 0; i < count; i++)
        if (known[i] == pid)
            return true;
    return false;
}

/* One walk: kills what it finds that is not in `seen` yet; how many those were. */
static int kill_round(struct process *list, pid_t worker, const pid_t *known, int known_count,
                      bool only_look, pid_t *seen, int *seen_count)
{
    const pid_t self = getpid();
    const int count = list_processes(list);
    int found = 0;
    for (int i = 0; i < count; i++) {
        const struct process *p = &list[i];
        if (p->state == 'Z' || p->state == 'X' || is_known(p->pid, known, known_count))
            continue;
        const bool orphan = p->parent == self &&
                            (is_marked(p->pid) || has_other_executable(p->pid)) && !is_inherited(p);
        if (!orphan && !(worker && descends_from(list, count, p->pid, worker)))
            continue;
        found++;
        if (only_look || kill(p->pid, SIGKILL) != 0)
            continue;
        if (orphan)
            waitpid(p->pid, NULL, 0);
        if (*seen_count < SEEN && !is_known(p->pid, seen, *seen_count))
            seen[(*seen_count)++] = p->pid;
    }
    return found;
}

int strays_kill(pid_t worker, const pid_t *known, int known_count, double grace_s)
{
    struct process *list = malloc(PROCESSES * sizeof *list);
    pid_t seen[SEEN];
    int seen_count = 0;
    const double deadline = clock_seconds() + grace_s;
    for (int round = 0; list && round < ROUNDS; round++) {
        const bool only_look = clock_seconds() < deadline;
        if (kill_round(list, worker, known, known_count, only_look, seen, &seen_count) == 0)
            break;
        const struct timespec wait = {.tv_nsec = only_look ? 10000000 : 1000000};
        nanosleep(&wait, NULL);
    }
    free(list);
    return seen_count;
}

size_t strays_memory(pid_t worker)
{
    struct process *list = malloc(PROCESSES * sizeof *list);
    size_t total = 0;
    const int count = list ? list_processes(list) : 0;
    for (int i = 0; i < count; i++) {
        char text[4096];
        unsigned long long kib;
        if (list[i].pid != worker && !descends_from(list, count, list[i].pid, worker))
            continue;
        if (read_proc(list[i].pid, "status", text, sizeof text) <= 0)
            continue;
        const char *line = strstr(text, "RssAnon:");
        if (line && sscanf(line, "RssAnon: %llu", &kib) == 1)
            total += (size_t)kib * 1024;
    }
    free(list);
    return total;
}
