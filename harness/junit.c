#include "harness/junit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct junit {
    FILE *cases; /* the elements so far */
    char *text;
    size_t size;
    int tests, failures, errors, skipped;
    double seconds;
};

enum status junit_create(struct junit **junit, struct error *error)
{
    struct junit *j = calloc(1, sizeof *j);
    *junit = j;
    if (j)
        j->cases = open_memstream(&j->text, &j->size);
    return j && j->cases ? STATUS_OK : error_set(error, STATUS_ENVIRONMENT, "out of memory");
}

void junit_free(struct junit *j)
{
    if (!j)
        return;
    if (j->cases)
        fclose(j->cases);
    free(j->text);
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

enum status junit_write(const struct junit *j, const char *path, struct error *error)
{
    char temporary[1100];
    snprintf(temporary, sizeof temporary, "%.1000s.tmp.%d", path, (int)getpid());
    FILE *file = fopen(temporary, "w");
    bool good = file && fflush(j->cases) == 0;
    if (good)
        good = fprintf(file,
                       "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<testsuite name=\"assay\" tests=\"%d\" failures=\"%d\" errors=\"%d\" "
                       "skipped=\"%d\" time=\"%.6f\">\n%s</testsuite>\n",
                       j->tests, j->failures, j->errors, j->skipped, j->seconds,
                       j->text ? j->text : "") > 0;
    const int e = errno;
    if (file && fclose(file) != 0)
        good = false;
    if (good && rename(temporary, path) == 0)
        return STATUS_OK;
    if (file)
        unlink(temporary);
    return error_set(error, STATUS_ENVIRONMENT, "cannot write '%.300s': %s", path,
                     strerror(good ? errno : e));
}
