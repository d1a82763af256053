#include "harness/junit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/new_file.h"

struct junit {
    struct new_file file;
    FILE *cases; /* the elements so far */
    char *text;
    size_t size;
    int tests, failures, errors, skipped;
    double seconds;
};

enum status junit_create(struct junit **junit, const char *path, struct error *error)
{
    struct junit *j = *junit = calloc(1, sizeof *j);
    if (!j)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    const enum status status = new_file_init(&j->file, path, error);
    if (status != STATUS_OK)
        return status;
    j->cases = open_memstream(&j->text, &j->size);
    return j->cases ? STATUS_OK : error_set(error, STATUS_ENVIRONMENT, "out of memory");
}

void junit_free(struct junit *j)
{
    if (!j)
        return;
    if (j->cases)
        fclose(j->cases);
    free(j->text);
    new_file_release(&j->file);
    free(j);
}

/* Text as XML has it; what no XML may hold becomes '?'. */
static void escape(FILE *to, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        switch (*c) {
        case '&':
            fputs("&amp;", to);
            break;
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        default:
            fputc(*c < 0x20 || *c > 0x7e ? '?' : *c, to);
        }
}

static void attribute_text(FILE *to, const char *name, const char *text)
{
    fprintf(to, " %s=\"", name);
    escape(to, text);
    fputc('"', to);
}

void junit_add(struct junit *j, const char *case_name, const struct trial *t, const char *reproduce)
{
    static const char *const elements[] = {[VERDICT_FAIL] = "failure",
                                           [VERDICT_CRASHED] = "error",
                                           [VERDICT_TIMEOUT] = "error",
                                           [VERDICT_SKIPPED] = "skipped"};
    int *const counts[] = {[VERDICT_FAIL] = &j->failures,
                           [VERDICT_CRASHED] = &j->errors,
                           [VERDICT_TIMEOUT] = &j->errors,
                           [VERDICT_SKIPPED] = &j->skipped};
    FILE *to = j->cases;
    fputs("  <testcase", to);
    attribute_text(to, "classname", t->implementation);
    attribute_text(to, "name", case_name);
    fprintf(to, " time=\"%.6f\"", t->seconds);
    j->tests++;
    j->seconds += t->seconds;
    if (t->verdict == VERDICT_PASS || t->verdict == VERDICT_MARGINAL) {
        fputs("/>\n", to);
        return;
    }
    ++*counts[t->verdict];
    fprintf(to, ">\n    <%s", elements[t->verdict]);
    attribute_text(to, "message", t->reason);
    if (t->verdict == VERDICT_SKIPPED) {
        fputs("/>\n  </testcase>\n", to);
        return;
    }
    attribute_text(to, "type", verdict_name(t->verdict));
    fputc('>', to);
    if (t->looks_like[0]) {
        fputs("looks like: ", to);
        escape(to, t->looks_like);
        fputc('\n', to);
    }
    fputs("again: ", to);
    escape(to, reproduce);
    fprintf(to, "</%s>\n  </testcase>\n", elements[t->verdict]);
}

enum status junit_write(struct junit *j, struct error *error)
{
    char *page = NULL;
    const bool whole = fflush(j->cases) == 0;
    const int n =
        asprintf(&page,
                 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<testsuite name=\"assay\" tests=\"%d\" failures=\"%d\" errors=\"%d\" "
                 "skipped=\"%d\" time=\"%.6f\">\n%s</testsuite>\n",
                 j->tests, j->failures, j->errors, j->skipped, j->seconds, j->text ? j->text : "");
    if (!whole || n < 0)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    enum status status = STATUS_OK;
    if (!new_file_write(j->file.fd, page, n, 0))
        status = error_set(error, STATUS_ENVIRONMENT, "cannot write '%.300s': %s", j->file.path,
                           strerror(errno));
    free(page);
    return status == STATUS_OK ? new_file_commit(&j->file, error) : status;
}
