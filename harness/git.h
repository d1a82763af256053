/* What is asked of git. Everything here answers "not known" where there is no git or no repository:
 * records are read without one. */
#ifndef ASSAY_HARNESS_GIT_H
#define ASSAY_HARNESS_GIT_H

#include <stdbool.h>
#include <stddef.h>

/* Hexadecimal digits of a commit in records. */
#define GIT_COMMIT_DIGITS 12

/* A revision (`HEAD~1`, a branch, a hash) as 12 digits. */
bool git_resolve(const char *revision, char commit[GIT_COMMIT_DIGITS + 1]);

/* The committer's time, ISO 8601 in UTC. */
bool git_commit_time(const char *revision, char time[32]);

/* All commits of all branches, 12 digits and a newline each, parents before children and else by
 * time; to be freed. NULL where there are none. */
char *git_all_commits(void);

/* Whether `commit` descends from `ancestor`, or is it; false, too, where that is not known. */
bool git_is_ancestor(const char *ancestor, const char *commit);

/* Commits that are in `to` and not in `from`; -1: not known. */
long git_count_between(const char *from, const char *to);

/* Runs git and takes its standard output, at most size - 1 bytes, without the last newline; its
 * standard error is dropped. The first of `words` is the subcommand, NULL ends them. False where
 * git fails. */
bool git_read(const char *const *words, char *out, size_t size);

/* Runs git in `folder` (NULL: here) with this program's standard output and error; the exit status,
 * or -1. */
int git_run(const char *folder, const char *const *words);

#endif
