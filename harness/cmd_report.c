/* assay report: one page that needs nothing else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/command.h"
#include "harness/new_file.h"
#include "harness/options.h"
#include "harness/report.h"

/* The page is made in memory and written whole or not at all. */
static enum status write_page(const struct report *report, const char *title, const char *path,
                              struct error *error)
{
    char *text = NULL;
    size_t size = 0;
    struct new_file file = {0};
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory for the page");
    report_write(stream, report, title);
    enum status status = STATUS_OK;
    if (fclose(stream) != 0)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the page");
    if (status == STATUS_OK)
        status = new_file_init(&file, path, error);
    if (status == STATUS_OK && !new_file_write(file.fd, text, (int64_t)size, 0))
        status = error_set(error, STATUS_ENVIRONMENT, "cannot write '%.200s': %s", path,
                           strerror(errno));
    if (status == STATUS_OK)
        status = new_file_commit(&file, error);
    new_file_release(&file);
    free(text);
    return status;
}

static bool same_file(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

int cmd_report(int argc, char **argv)
{
    const char *path = "report.html", *title = "assay report";
    bool dirty = false;
    const struct option options[] = {
        {"output", OPTION_STRING, &path, "FILE", "the page (default report.html)", 0, 0},
        {"title", OPTION_STRING, &title, "TEXT", "its title", 0, 0},
        {"dirty", OPTION_FLAG, &dirty, NULL, "records of changed trees count, too", 0, 0},
    };
    const struct option_set option_set = {
        "report", "[options] [RECORDS...]",
        "Writes one self-contained HTML page: verdicts, times, roofline, history with change\n"
        "points, errors over bound, kill matrix, machines. RECORDS: files or folders (default\n"
        "results).",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    struct record_set set = {0};
    struct report report = {0};
    enum status status = options_parse(&option_set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK && words == 0)
        status = record_set_read(&set, "results", &error);
    for (int i = 0; i < words && status == STATUS_OK; i++)
        status = same_file(argv[i], path)
                     ? error_set(&error, STATUS_BAD_INPUT,
                                 "'%.200s' is read: give --output another name", path)
                     : record_set_read(&set, argv[i], &error);
    if (status == STATUS_OK && set.count == 0)
        status = error_set(&error, STATUS_BAD_INPUT,
                           "no record to report: make some with 'assay bench --record FILE'");
    if (status == STATUS_OK)
        status = report_init(&report, &set, dirty, &error);
    if (status == STATUS_OK)
        status = write_page(&report, title, path, &error);
    if (status == STATUS_OK)
        fprintf(stderr, "%s: %lld records, %lld series\n", path, (long long)set.count,
                (long long)report.count);
    report_release(&report);
    record_set_release(&set);
    return status == STATUS_OK ? STATUS_OK : command_error(&error);
}
