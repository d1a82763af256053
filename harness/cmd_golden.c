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

/* The file's name for a case of a suite: its name with what a path cannot hold replaced. */
static void name_in_folder(const char *folder, const char *name, char *path, size_t size)
{
    int n = snprintf(path, size, "%.400s/", folder);
    for (const char *p = name; *p && (size_t)n + 4 < size; p++)
        path[n++] = *p == '/' || *p == '@' ? '_' : *p;
    snprintf(path + n, size - (size_t)n, ".h5");
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
    if (status == STATUS_OK && !folder && (suite.count > 1 || a->suite)) {
        if (mkdir(a->out, 0777) != 0)
            status = error_set(error, STATUS_BAD_INPUT, "cannot make folder '%.200s': %s", a->out,
                               strerror(errno));
    }
    omp_set_num_threads((int)a->threads);
    for (size_t i = 0; i < suite.count && status == STATUS_OK; i++) {
        const struct suite_entry *e = &suite.entries[i];
        struct case_source source;
        const struct fill *own = fill;
        char path[1024];
        if (e->fill[0])
            status = fill_find(e->fill, &own, error);
        if (status == STATUS_OK)
            status =
                case_source_open(&source, e->text, own, e->has_seed ? e->seed : a->seed, error);
        if (status != STATUS_OK)
            break;
        snprintf(path, sizeof path, "%s", a->out);
        if (folder || suite.count > 1 || a->suite)
            name_in_folder(a->out, e->name, path, sizeof path);
        status = write_case(&source, storage, path, error);
        if (status == STATUS_OK)
            printf("%s  %s\n", path, source.descriptor);
        case_source_release(&source);
    }
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
