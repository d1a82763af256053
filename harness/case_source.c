#include "harness/case_source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ref/descriptor.h"
#include "ref/random_problem.h"

/* A path is what ends in .h5 or .hdf5, holds a slash, or names something that exists. */
static bool is_path(const char *text)
{
    struct stat info;
    const size_t n = strlen(text);
    return (n > 3 && strcmp(text + n - 3, ".h5") == 0) ||
           (n > 5 && strcmp(text + n - 5, ".hdf5") == 0) || strchr(text, '/') != NULL ||
           stat(text, &info) == 0;
}

static enum status open_random(struct case_source *s, const char *text, struct error *error)
{
    uint64_t seed;
    int64_t index, last;
    const enum status status = random_problem_parse(text, &seed, &index, &last, error);
    if (status != STATUS_OK)
        return status;
    s->problem = random_problem(seed, index);
    s->fill = &fill_table[(uint64_t)index % fill_count];
    s->seed = seed + (uint64_t)index;
    s->complete = true;
    return STATUS_OK;
}

enum status case_source_open(struct case_source *s, const char *text, const struct fill *fill,
                             uint64_t seed, struct error *error)
{
    *s = (struct case_source){.fill = fill, .seed = seed};
    if (strlen(text) >= sizeof s->text)
        return error_set(error, STATUS_BAD_INPUT,
                         "case '%.60s...' is too long: at most %zu "
                         "characters",
                         text, sizeof s->text - 1);
    snprintf(s->name, sizeof s->name, "%s", text);
    snprintf(s->text, sizeof s->text, "%s", text);
    enum status status;
    if (strncmp(text, RANDOM_PREFIX, strlen(RANDOM_PREFIX)) == 0) {
        status = open_random(s, text, error);
    } else if (is_path(text)) {
        status = case_file_open(&s->file, text, error);
        if (status == STATUS_OK) {
            s->problem = *case_file_problem(s->file);
            s->fill = NULL;
            s->seed = 0;
            s->complete = true;
        }
    } else {
        status = descriptor_parse(text, &s->problem, error);
    }
    if (status == STATUS_OK)
        descriptor_print(&s->problem, s->descriptor, sizeof s->descriptor);
    return status;
}

void case_source_release(struct case_source *s)
{
    case_file_free(s->file);
    *s = (struct case_source){0};
}

enum status case_source_params(const struct case_source *s, float *weight, float *conv_bias,
                               float *bias, struct error *error)
{
    if (s->file)
        return case_file_read_params(s->file, weight, conv_bias, bias, error);
    fill_params(s->fill, &s->problem, s->seed, weight, conv_bias, bias);
    return STATUS_OK;
}

enum status case_source_input(const struct case_source *s, int64_t first, int64_t count, float *x,
                              struct error *error)
{
    if (s->file)
        return case_file_read_input(s->file, first, count, x, error);
    fill_input(s->fill, &s->problem, s->seed, first, count, x);
    return STATUS_OK;
}

enum status case_source_load(const struct case_source *s, struct arena *arena, struct error *error)
{
    enum status status = STATUS_OK;
    if (s->file)
        status = case_file_check_sums(s->file, NULL, error);
    if (status == STATUS_OK)
        status = case_source_params(s, arena->weight, arena->conv_bias, arena->bias, error);
    if (status == STATUS_OK)
        status = case_source_input(s, 0, s->problem.batch, arena->x, error);
    return status;
}
