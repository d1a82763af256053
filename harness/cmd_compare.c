/* assay compare: two sets of records, and a gate. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/command.h"
#include "harness/comparison_print.h"
#include "harness/git.h"
#include "harness/options.h"

static bool is_commit_prefix(const char *word)
{
    const size_t n = strlen(word);
    return n >= 4 && n <= 40 && strspn(word, "0123456789abcdef") == n;
}

/* What the word stands for: a file or folder, a revision that git knows, the beginning of a
 * commit's hash. */
static enum status resolve(const char *word, struct record_set *set, struct comparison_side *side,
                           struct error *error)
{
    struct stat info;
    *side = (struct comparison_side){.word = word};
    if (stat(word, &info) == 0) {
        record_set_forget(set); /* the sides may have records in common */
        side->first = set->count;
        const enum status status = record_set_read(set, word, error);
        side->end = set->count;
        return status;
    }
    if (git_resolve(word, side->commit))
        return STATUS_OK;
    if (is_commit_prefix(word)) {
        snprintf(side->commit, sizeof side->commit, "%.12s", word);
        return STATUS_OK;
    }
    return error_set(error, STATUS_BAD_INPUT,
                     "'%.200s' is neither a file of records nor a commit that git knows", word);
}

/* Commits of a side's rows, a changed tree being one more. */
static int64_t count_commits(const struct comparison_list *list, bool second)
{
    int64_t count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const struct record *r = second ? list->rows[i].b : list->rows[i].a;
        bool seen = !r;
        for (int64_t k = 0; k < i && !seen; k++) {
            const struct record *before = second ? list->rows[k].b : list->rows[k].a;
            seen = before && comparison_same_tree(before, r);
        }
        count += !seen;
    }
    return count;
}

static void describe(const struct comparison_side *side, const struct comparison_list *list,
                     bool second, char *text, size_t size)
{
    const struct record *newest = comparison_newest(list, second);
    const int64_t others = count_commits(list, second) - 1;
    char more[48] = "";
    if (others > 0)
        snprintf(more, sizeof more, "%s and %lld other%s", newest->dirty ? "," : "",
                 (long long)others, others == 1 ? "" : "s");
    snprintf(text, size, "%.300s%s%s%s%s", side->word, newest ? ": commit " : "",
             newest ? newest->commit : "", newest && newest->dirty ? ", changed" : "", more);
}

/* Both sides must have something, and something in common. */
static enum status check(const struct record_set *set, const struct comparison_list *list,
                         const struct comparison_side *sides, struct error *error)
{
    int64_t count[2] = {0}, both = 0;
    for (int64_t i = 0; i < list->count; i++) {
        count[0] += list->rows[i].a != NULL;
        count[1] += list->rows[i].b != NULL;
        both += list->rows[i].a && list->rows[i].b;
    }
    for (int i = 0; i < 2; i++) {
        int64_t dirty = 0;
        for (int64_t k = 0; k < set->count && sides[i].commit[0]; k++)
            dirty += set->records[k].commit && set->records[k].dirty &&
                     strncmp(set->records[k].commit, sides[i].commit, strlen(sides[i].commit)) == 0;
        if (count[i] == 0 && dirty > 0)
            return error_set(error, STATUS_BAD_INPUT,
                             "'%.200s' has %lld records, all of trees that differed from the "
                             "commit: give --dirty to compare them",
                             sides[i].word, (long long)dirty);
        if (count[i] == 0)
            return error_set(error, STATUS_BAD_INPUT,
                             "no record of '%.200s': make some with 'assay bench --record FILE'",
                             sides[i].word);
    }
    if (both == 0 && list->apart_count > 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "nothing is compared: '%.100s' was measured on '%.200s', '%.100s' on "
                         "'%.200s'",
                         sides[0].word, list->apart[0].a.machine, sides[1].word,
                         list->apart[0].b.machine);
    if (both == 0)
        return error_set(error, STATUS_BAD_INPUT,
                         "nothing is compared: '%.200s' and '%.200s' have no implementation and "
                         "problem in common",
                         sides[0].word, sides[1].word);
    return STATUS_OK;
}

int cmd_compare(int argc, char **argv)
{
    bool json = false, dirty = false;
    const char *records = "results";
    double threshold = 2.0, noise = -1.0;
    const struct option options[] = {
        {"records", OPTION_STRING, &records, "PATH",
         "records of commits, and calibrations: a file or folder (default results)", 0, 0},
        {"threshold", OPTION_REAL, &threshold, "PCT", "SLOWER by more than PCT % fails (default 2)",
         0.0, 1e6},
        {"noise", OPTION_REAL, &noise, "PCT",
         "what identical code may differ by (default: calibrated)", 0.0, 100.0},
        {"dirty", OPTION_FLAG, &dirty, NULL, "records of changed trees count, too", 0, 0},
        {"json", OPTION_FLAG, &json, NULL, "one JSON object a line", 0, 0},
    };
    const struct option_set option_set = {
        "compare", "[options] A B",
        "Compares two sets of records: A and B are record files, folders of them, or commits\n"
        "(HEAD~1, main, a hash) whose records lie in --records. Of a file, each implementation's\n"
        "newest commit counts. Only times of one machine are compared.\n"
        "Behind each median, how far its 95 % interval reaches below and above.\n"
        "SLOWER and FASTER: the whole 99 % interval of B / A lies beyond what identical code may\n"
        "differ by on this machine ('assay bench --calibrate'); SAME: within; else UNDECIDED.\n"
        "Exit status: 1 where something is SLOWER beyond the threshold or fails newly.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    enum status status = options_parse(&option_set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK && words != 2)
        status = error_set(&error, STATUS_BAD_INPUT,
                           "compare takes two sides, got %d: see 'assay help compare'", words);
    struct record_set set = {0};
    struct comparison_side sides[2];
    struct comparison_list list = {0};
    struct stat info;
    char text[2][512];
    for (int i = 0; i < 2 && status == STATUS_OK; i++)
        status = i == 1 && strcmp(argv[0], argv[1]) == 0
                     ? (sides[1] = sides[0], STATUS_OK)
                     : resolve(argv[i], &set, &sides[i], &error);
    const bool needed = status == STATUS_OK && (sides[0].commit[0] || sides[1].commit[0]);
    const bool other =
        status == STATUS_OK && strcmp(argv[0], records) != 0 && strcmp(argv[1], records) != 0;
    if (status == STATUS_OK && other && (needed || stat(records, &info) == 0))
        status = record_set_read(&set, records, &error);
    const struct comparison_options how = {COMPARISON_CONFIDENCE,
                                           noise < 0.0 ? -1.0 : noise / 100.0, dirty};
    if (status == STATUS_OK)
        status = comparison_make(&set, &sides[0], &sides[1], &how, &list, &error);
    if (status == STATUS_OK) {
        status = check(&set, &list, sides, &error);
        for (int i = 0; i < 2; i++)
            describe(&sides[i], &list, i == 1, text[i], sizeof text[i]);
        if (json)
            comparison_print_json(&list, text[0], text[1], threshold / 100.0);
        else if (status == STATUS_OK)
            comparison_print_text(&list, text[0], text[1], threshold / 100.0);
    }
    const int64_t regressions = comparison_regressions(&list, threshold / 100.0);
    comparison_release(&list);
    record_set_release(&set);
    if (status != STATUS_OK)
        return command_error(&error);
    if (!json && regressions > 0)
        printf("%lld regression%s\n", (long long)regressions, regressions == 1 ? "" : "s");
    return regressions > 0 ? STATUS_FAILED : STATUS_OK;
}
