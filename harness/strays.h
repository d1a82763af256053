/* Processes that an implementation under test left behind.
 *
 * The program is the subreaper of all that its workers start, so a process whose parent has gone
 * (fork and exit, twice, with a session of its own) becomes the program's child and is found in
 * /proc. It is told from the program's other helpers by a mark in the environment that workers
 * inherit, or by another executable; what a shell had started before it became the program
 * (`assay ... > >(tee log)`, `job & exec assay ...`) by its being there before the first worker. */
#ifndef ASSAY_HARNESS_STRAYS_H
#define ASSAY_HARNESS_STRAYS_H

#include <sys/types.h>

/* NAME=VALUE in the environment of every worker. */
#define STRAYS_MARK "ASSAY_WORKER=1"

/* Before a worker is started: makes this process the subreaper. The first call remembers which
 * descendants it has already; they are left alone. */
void strays_adopt(void);

/* Kills and reaps every descendant of `worker` (0: none), and every orphan of a worker that became
 * this process's child, but none of the `count` processes of `known`. They are first given grace_s
 * to end by themselves. Returns how many were killed. */
int strays_kill(pid_t worker, const pid_t *known, int count, double grace_s);

/* Anonymous memory of a process and its descendants, in bytes. */
size_t strays_memory(pid_t worker);

#endif
