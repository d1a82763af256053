/* assay golden: make golden case files. */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/case_source.h"
#include "harness/command.h"
#include "harness/machine.h"
#include "harness/options.h"
#include "harness/progress.h"
#include "harness/suite.h"
#include "ref/oracle.h"

/* Images made at a time: enough for the threads, little enough to stay small. */
#define IMAGES 4

static enum status write_case(const struct case_source *s, enum case_expected_storage storage,
                              const char *path, struct error *error)
{
    const struct problem *p = &s->problem;
    struct case_provenance provenance = {.has_seed = !s->file, .seed = s->seed};
    snprintf(provenance.descriptor, sizeof provenance.descriptor, "%.511s", s->descriptor);
    snprintf(provenance.fill, sizeof provenance.fill, "%s", s->file ? "" : s->fill->name);
    snprintf(provenance.version, sizeof provenance.version, "%s", assay_version());
    snprintf(provenance.commit, sizeof provenance.commit, "%s", commit_get(NULL));
    libraries_describe(provenance.libraries, sizeof provenance.libraries);

    struct case_writer *writer = NULL;
    struct oracle *oracle = NULL;
    struct progress progress;
    float *weight = malloc((size_t)problem_weight_count(p) * sizeof *weight);
    float *conv_bias = malloc((size_t)p->out_channels * sizeof *conv_bias);
    float *bias = malloc((size_t)p->bias_count * sizeof *bias);
    float *x = malloc(IMAGES * (size_t)problem_input_image(p) * sizeof *x);
    double *y =
        storage == CASE_EXPECTED_NONE ? NULL : malloc((size_t)problem_output_image(p) * sizeof *y);
    enum status status;
    if (!weight || !conv_bias || !bias || !x || (storage != CASE_EXPECTED_NONE && !y)) {
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the images of '%.100s'",
                           s->name);
        goto out;
    }
    const struct params params = {weight, p->has_conv_bias ? conv_bias : NULL, bias};
    status = case_source_params(s, weight, conv_bias, bias, error);
    if (status == STATUS_OK)
        status = case_writer_create(&writer, path, p, &provenance, storage, error);
    if (status == STATUS_OK)
        status = case_writer_params(writer, &params, error);
    if (status == STATUS_OK && storage != CASE_EXPECTED_NONE)
        status = oracle_create(&oracle, p, &params, error);
    progress_begin(&progress, path, "images", p->batch);
    for (int64_t n = 0; n < p->batch && status == STATUS_OK;) {
        const int64_t count = p->batch - n < IMAGES ? p->batch - n : IMAGES;
        status = case_source_input(s, n, count, x, error);
        if (status == STATUS_OK)
            status = case_writer_input(writer, x, count, error);
        for (int64_t i = 0; i < count && status == STATUS_OK && oracle; i++) {
            status = oracle_expected(oracle, x + i * problem_input_image(p), n + i, 1, y, error);
            if (status == STATUS_OK)
                status = case_writer_expected(writer, y, 1, error);
        }
        progress_step(&progress, count);
        n += count;
    }
    progress_end(&progress);
    if (status == STATUS_OK)
        status = case_writer_commit(writer, error);
out:
    case_writer_free(writer);
    oracle_free(oracle);
    free(weight);
    free(conv_bias);
    free(bias);
    free(x);
    free(y);
    return status;
}

/* The file for a case of a suite: its name with what a path cannot hold replaced. NULL when out of
 * memory. */
static char *path_in_folder(const char *folder, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s.h5", folder, name) < 0)
        return NULL;
    for (char *p = path + strlen(folder) + 1; *p; p++)
        *p = *p == '/' || *p == '@' ? '_' : *p;
    return path;
}

struct golden_file {
    char *path;
    const struct suite_entry *entry;
};

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct golden_file *)a)->path, ((const struct golden_file *)b)->path);
}

/* The files in the order of the suite. Two cases may not become one file. */
static enum status name_files(struct golden_file *files, const struct suite *suite, const char *out,
                              bool in_folder, struct error *error)
{
    struct golden_file *sorted = malloc(suite->count * sizeof *sorted);
    enum status status = sorted ? STATUS_OK : error_set(error, STATUS_ENVIRONMENT, "out of memory");
    for (size_t i = 0; i < suite->count && status == STATUS_OK; i++) {
        const struct suite_entry *e = &suite->entries[i];
        files[i] = (struct golden_file){in_folder ? path_in_folder(out, e->name) : strdup(out), e};
        if (!files[i].path)
            status = error_set(error, STATUS_ENVIRONMENT, "out of memory");
    }
    if (status == STATUS_OK) {
        memcpy(sorted, files, suite->count * sizeof *sorted);
        qsort(sorted, suite->count, sizeof *sorted, by_path);
    }
    for (size_t i = 1; i < suite->count && status == STATUS_OK; i++)
        if (strcmp(sorted[i - 1].path, sorted[i].path) == 0)
            status = error_set(error, STATUS_BAD_INPUT,
                               "cases '%.100s' and '%.100s' would both be written to '%.200s'",
                               sorted[i - 1].entry->name, sorted[i].entry->name, sorted[i].path);
    free(sorted);
    return status;
}

static enum status parse_storage(const char *text, enum case_expected_storage *storage,
                                 struct error *error)
{
    static const struct {
        const char *name;
        enum case_expected_storage storage;
    } table[] = {
        {"f64", CASE_EXPECTED_F64}, {"f32", CASE_EXPECTED_F32}, {"none", CASE_EXPECTED_NONE}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(text, table[i].name) == 0) {
            *storage = table[i].storage;
            return STATUS_OK;
        }
    return error_set(error, STATUS_BAD_INPUT, "option '--expected' is '%.40s': f64, f32 or none",
                     text);
}

struct golden_arguments {
    const char *out, *fill, *expected, *suite;
    uint64_t seed;
    int64_t threads;
};

static enum status golden(const struct golden_arguments *a, char **words, int word_count,
                          struct error *error)
{
    const struct fill *fill;
    enum case_expected_storage storage = CASE_EXPECTED_F64;
    struct suite suite = {0};
    struct stat info;
    enum status status = fill_find(a->fill, &fill, error);
    if (status == STATUS_OK)
        status = parse_storage(a->expected, &storage, error);
    if (status == STATUS_OK && !a->out)
        status = error_set(error, STATUS_BAD_INPUT, "no output is given: --out FILE");
    for (int i = 0; i < word_count && status == STATUS_OK; i++)
        status = suite_add(&suite, words[i], words[i], error);
    if (status == STATUS_OK && a->suite)
        status = suite_read(&suite, a->suite, error);
    if (status == STATUS_OK && suite.count == 0)
        status = error_set(error, STATUS_BAD_INPUT, "no case is given: a descriptor or 'home@mb1'");
    const bool folder = status == STATUS_OK && stat(a->out, &info) == 0 && S_ISDIR(info.st_mode);
    const bool several = suite.count > 1 || a->suite;
    struct golden_file *files = calloc(suite.count + 1, sizeof *files);
    if (status == STATUS_OK)
        status = files ? name_files(files, &suite, a->out, folder || several, error)
                       : error_set(error, STATUS_ENVIRONMENT, "out of memory");
    if (status == STATUS_OK && !folder && several && mkdir(a->out, 0777) != 0)
        status = error_set(error, STATUS_BAD_INPUT, "cannot make folder '%.200s': %s", a->out,
                           strerror(errno));
    omp_set_num_threads((int)a->threads);
    for (size_t i = 0; i < suite.count && status == STATUS_OK; i++) {
        const struct suite_entry *e = &suite.entries[i];
        struct case_source source;
        const struct fill *own = fill;
        if (e->fill[0])
            status = fill_find(e->fill, &own, error);
        if (status == STATUS_OK)
            status =
                case_source_open(&source, e->text, own, e->has_seed ? e->seed : a->seed, error);
        if (status != STATUS_OK)
            break;
        status = write_case(&source, storage, files[i].path, error);
        if (status == STATUS_OK)
            printf("%s  %s\n", files[i].path, source.descriptor);
        case_source_release(&source);
    }
    for (size_t i = 0; files && i < suite.count; i++)
        free(files[i].path);
    free(files);
    suite_release(&suite);
    return status;
}

int cmd_golden(int argc, char **argv)
{
    struct golden_arguments a = {
        .fill = "conditioned", .expected = "f64", .seed = 1, .threads = omp_get_num_procs()};
    const struct option options[] = {
        {"out", OPTION_STRING, &a.out, "PATH", "the file; a folder for several cases", 0, 0},
        {"fill", OPTION_STRING, &a.fill, "NAME", "how the tensors are filled", 0, 0},
        {"seed", OPTION_SEED, &a.seed, "N", "seed of the fill, or 'random' (default 1)", 0, 0},
        {"expected", OPTION_STRING, &a.expected, "TYPE", "f64 (default), f32 or none", 0, 0},
        {"suite", OPTION_STRING, &a.suite, "FILE", "also the cases of a suite", 0, 0},
        {"threads", OPTION_INTEGER, &a.threads, "N", "CPU threads (default: all cores)", 1, 4096},
    };
    const struct option_set set = {
        "golden", "--out PATH [options] CASE...",
        "Writes case files: tensors from a seeded fill (or another case file) and the expected\n"
        "output of the fp64 oracle, image by image, so that any batch fits.",
        options, sizeof options / sizeof *options};
    struct error error;
    int words;
    bool helped;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK)
        status = golden(&a, argv, words, &error);
    return status == STATUS_OK ? STATUS_OK : command_error(&error);
}
