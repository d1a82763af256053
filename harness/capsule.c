#include "harness/capsule.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/machine.h"
#include "ref/descriptor.h"
#include "ref/oracle.h"

/* Expected values and bounds of one image. */
struct capsule_visit {
    const struct problem *problem;
    const struct oracle *oracle;
    struct bound bound;
    double *expected;
    float *allowed;
    double *scratch; /* [threads][6][pitch] */
};

static bool visit(void *context, int thread, const struct oracle_strip *s)
{
    const struct capsule_visit *v = context;
    const struct strip_kernels *k = strip_kernels_get();
    const struct oracle_arrays *a = s->arrays;
    const int64_t out_h = problem_output_h(v->problem), out_w = problem_output_w(v->problem);
    double *row = v->scratch + (int64_t)thread * 6 * a->pitch;
    const struct bound_pixels pixels = {{row, row + a->pitch},
                                        {row + 2 * a->pitch, row + 3 * a->pitch}};
    double *typical = row + 4 * a->pitch, *worst = row + 5 * a->pitch;
    k->bound_pixels(&v->bound, oracle_epilogue(v->oracle), a, &pixels);
    for (int64_t c = 0; c < a->channels; c++) {
        k->bound_row(&v->bound, oracle_epilogue(v->oracle), a, &pixels, c, typical, worst);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->columns; j++) {
                const int64_t from = s->first_position + i * s->pitch_columns + j;
                const int64_t to =
                    (c * out_h + s->oh + i * s->step_h) * out_w + s->ow + j * s->step_w;
                v->expected[to] = a->expected[c * a->pitch + from];
                v->allowed[to] = (float)typical[from];
            }
    }
    return true;
}

/* The images that are kept: all, or as many around the worst element as fit. */
static void choose_images(const struct problem *p, const struct trial *t, int64_t *first,
                          int64_t *count)
{
    const int64_t image = 4 * problem_input_image(p) + 16 * problem_output_image(p);
    const int64_t fit = CAPSULE_BYTES / (image > 0 ? image : 1) > 1 ? CAPSULE_BYTES / image : 1;
    const int64_t worst = t->compared && t->report.has_worst ? t->report.worst.n : 0;
    *count = p->batch < fit ? p->batch : fit;
    *first = worst - *count / 2;
    if (*first > p->batch - *count)
        *first = p->batch - *count;
    if (*first < 0)
        *first = 0;
}

static enum status write_images(struct case_writer *writer, const struct arena *arena,
                                enum arithmetic_class cls, int64_t first, int64_t count,
                                struct error *error)
{
    const struct problem *p = &arena->problem;
    const struct params params = arena_params(arena);
    const int64_t in = problem_input_image(p), out = problem_output_image(p);
    struct oracle *oracle = NULL;
    struct capsule_visit v = {.problem = p};
    enum status status = oracle_create(&oracle, p, &params, error);
    if (status != STATUS_OK)
        return status;
    v.oracle = oracle;
    v.expected = malloc((size_t)out * sizeof *v.expected);
    v.allowed = malloc((size_t)out * sizeof *v.allowed);
    v.scratch = malloc((size_t)omp_get_max_threads() * 6 * (size_t)oracle_pitch(oracle) *
                       sizeof *v.scratch);
    if (!v.expected || !v.allowed || !v.scratch)
        status = error_set(error, STATUS_ENVIRONMENT, "out of memory for a capsule");
    bound_init(&v.bound, cls, p, tensor_max_magnitude(arena->x, problem_input_count(p)),
               tensor_max_magnitude(arena->weight, problem_weight_count(p)));
    for (int64_t n = first; n < first + count && status == STATUS_OK; n++) {
        status = oracle_run(oracle, arena->x + n * in, n, 1, visit, &v, error);
        if (status == STATUS_OK)
            status = case_writer_input(writer, arena->x + n * in, 1, error);
        if (status == STATUS_OK)
            status = case_writer_expected(writer, v.expected, 1, error);
        if (status == STATUS_OK)
            status = case_writer_got(writer, arena->y + n * out, v.allowed, 1, error);
    }
    free(v.expected);
    free(v.allowed);
    free(v.scratch);
    oracle_free(oracle);
    return status;
}

/* Appends a name to the path, with nothing in it that a shell or a file system minds. */
static void append_name(char *path, size_t size, const char *name, size_t most)
{
    const char *slash = strrchr(name, '/');
    const bool is_path = strstr(name, ".h5") != NULL || strncmp(name, "plugin:", 7) == 0;
    const char *from = is_path && slash ? slash + 1 : name;
    size_t n = strlen(path);
    for (size_t i = 0; from[i] && i < most && n + 8 < size; i++)
        path[n++] = isalnum((unsigned char)from[i]) || strchr("._-", from[i]) ? from[i] : '-';
    path[n] = 0;
}

/* The k-th name for it. */
static void name_capsule(char *path, size_t size, const char *folder, const char *implementation,
                         const char *name, int k)
{
    snprintf(path, size, "%.400s/capsule-", folder);
    append_name(path, size, implementation, 60);
    append_name(path, size, "-", 1);
    append_name(path, size, name, 120);
    const size_t n = strlen(path);
    snprintf(path + n, size - n, k > 1 ? "-%d.h5" : ".h5", k);
}

/* Whether a file is there that isn't an earlier capsule of the same trial: names are cut, hold of a
 * path the file's name alone, and nothing of fill, seed or rule. */
static bool is_anothers(const char *path, const char *record)
{
    char text[CAPSULE_RECORD_SIZE];
    struct case_file *file;
    struct error ignored;
    if (access(path, F_OK) != 0)
        return false;
    if (case_file_open(&file, path, &ignored) != STATUS_OK)
        return true;
    const bool read = case_file_read_record(file, text, sizeof text, &ignored) == STATUS_OK;
    case_file_free(file);
    json_t *its = read ? json_loads(text, 0, NULL) : NULL, *ours = json_loads(record, 0, NULL);
    const json_t *line = json_object_get(ours, "reproduce");
    const bool same = its && line && json_equal(json_object_get(its, "reproduce"), line);
    json_decref(its);
    json_decref(ours);
    return !same;
}

static struct case_provenance provenance_of_case(const struct case_source *source)
{
    struct case_provenance from = {.has_seed = !source->file, .seed = source->seed};
    snprintf(from.descriptor, sizeof from.descriptor, "%s", source->descriptor);
    if (source->fill)
        snprintf(from.fill, sizeof from.fill, "%s", source->fill->name);
    snprintf(from.version, sizeof from.version, "%s", assay_version());
    snprintf(from.commit, sizeof from.commit, "%s", commit_get(NULL));
    libraries_describe(from.libraries, sizeof from.libraries);
    return from;
}

enum status capsule_check(const char *folder, struct error *error)
{
    struct stat info;
    if (mkdir(folder, 0777) == 0) {
        rmdir(folder);
        return STATUS_OK;
    }
    const int e = errno;
    if (e == EEXIST && stat(folder, &info) == 0 && S_ISDIR(info.st_mode))
        return STATUS_OK;
    return error_set(error, STATUS_BAD_INPUT, "cannot make the folder '%.300s': %s", folder,
                     strerror(e));
}

enum status capsule_write(const char *folder, const struct case_source *source,
                          const struct trial *t, const char *record, char *path, size_t path_size,
                          struct error *error)
{
    const struct params params = arena_params(t->arena);
    const struct case_provenance from = provenance_of_case(source);
    struct problem kept = t->arena->problem;
    struct case_writer *writer;
    int64_t first;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return error_set(error, STATUS_ENVIRONMENT, "cannot make the folder '%.300s': %s", folder,
                         strerror(errno));
    choose_images(&t->arena->problem, t, &first, &kept.batch);
    for (int k = 1; k == 1 || is_anothers(path, record); k++)
        name_capsule(path, path_size, folder, t->implementation, source->name, k);
    enum status status = case_writer_create(&writer, path, &kept, &from, CASE_EXPECTED_F64, error);
    if (status == STATUS_OK)
        status = case_writer_capsule(writer, record, first, error);
    if (status == STATUS_OK)
        status = case_writer_params(writer, &params, error);
    if (status == STATUS_OK)
        status = write_images(writer, t->arena, t->cls, first, kept.batch, error);
    if (status == STATUS_OK)
        status = case_writer_commit(writer, error);
    case_writer_free(writer);
    return status;
}
