#include "harness/run_list.h"

#include <fnmatch.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/command.h"
#include "harness/interleave.h"
#include "ref/random_problem.h"

struct run_arguments run_arguments_default(void)
{
    return (struct run_arguments){.fill = "conditioned",
                                  .cls = NULL,
                                  .tolerance = "derived",
                                  .seed = 1,
                                  .threads = omp_get_num_procs(),
                                  .timeout_s = 600.0,
                                  .repeat = 2};
}

static enum status add_implementation(struct run_list *l, const char *name, size_t length,
                                      struct error *error)
{
    char **grown =
        realloc(l->implementations, (l->implementation_count + 1) * sizeof *l->implementations);
    if (!grown)
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    l->implementations = grown;
    grown[l->implementation_count] = strndup(name, length);
    if (!grown[l->implementation_count])
        return error_set(error, STATUS_ENVIRONMENT, "out of memory");
    struct implementation implementation;
    return implementation_resolve(grown[l->implementation_count++], &implementation, error);
}

/* Commas separate names; a command (exec:) runs to the end, because it may hold commas. */
static enum status add_implementations(struct run_list *l, const char *names, struct error *error)
{
    enum status status = STATUS_OK;
    if (!names) {
        for (size_t i = 0; i < implementation_count() && status == STATUS_OK; i++) {
            const struct implementation *row = implementation_at(i);
            if (!row->slow)
                status = add_implementation(l, row->name, strlen(row->name), error);
        }
        return status;
    }
    while (status == STATUS_OK) {
        const size_t length = strncmp(names, "exec:", 5) == 0 ? strlen(names) : strcspn(names, ",");
        status = add_implementation(l, names, length, error);
        names += length;
        if (*names == 0)
            break;
        names++;
    }
    return status;
}

/* The glob is held against the case's name and, where it is no file, against its descriptor:
 * '*kh3*' takes every case with that kernel. */
static bool matches(const struct suite_entry *e, const char *filter)
{
    struct case_source source;
    struct error ignored;
    if (fnmatch(filter, e->name, 0) == 0)
        return true;
    if (strchr(e->text, '/') && strncmp(e->text, RANDOM_PREFIX, strlen(RANDOM_PREFIX)) != 0)
        return false;
    const bool opened =
        case_source_open(&source, e->text, &fill_table[0], 0, &ignored) == STATUS_OK;
    const bool found = opened && fnmatch(filter, source.descriptor, 0) == 0;
    if (opened)
        case_source_release(&source);
    return found;
}

static void keep_matching(struct suite *s, const char *filter)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (matches(&s->entries[i], filter)) {
            s->entries[kept++] = s->entries[i];
        } else {
            free(s->entries[i].name);
            free(s->entries[i].text);
        }
    }
    s->count = kept;
}

enum status run_list_init(struct run_list *l, const struct run_arguments *a, char **words,
                          int word_count, struct error *error)
{
    *l = (struct run_list){.arguments = *a};
    l->options.run = (struct run_options){
        .threads = (int)a->threads, .device = (int)a->device, .cls = CLASS_FP32};
    l->options.timeout_s = a->timeout_s;
    l->options.repeat = (int)a->repeat;
    l->options.memory_limit = (size_t)(a->memory_gb * 1e9);
    omp_set_num_threads((int)a->threads);
    enum status status = STATUS_OK;
    if (a->cls) {
        l->options.class_given = true;
        status = arithmetic_class_parse(a->cls, &l->options.run.cls, error);
    }
    if (status == STATUS_OK)
        status = tolerance_parse(a->tolerance, &l->options.tolerance, error);
    if (status == STATUS_OK)
        status = fill_find(a->fill, &l->fill, error);
    if (status == STATUS_OK)
        status = add_implementations(l, a->implementations, error);
    for (int i = 0; i < word_count && status == STATUS_OK; i++)
        status = suite_add(&l->cases, words[i], words[i], error);
    if (status == STATUS_OK && a->suite)
        status = suite_read(&l->cases, a->suite, error);
    if (status == STATUS_OK && a->random > 0) {
        char text[96];
        snprintf(text, sizeof text, RANDOM_PREFIX "%llu/0-%lld", (unsigned long long)a->seed,
                 (long long)a->random - 1);
        status = suite_add(&l->cases, text, text, error);
    }
    if (status == STATUS_OK && l->cases.count == 0)
        status = error_set(error, STATUS_BAD_INPUT,
                           "no case is given: a descriptor, a case file, or 'home@mb1'");
    if (status == STATUS_OK && a->filter) {
        keep_matching(&l->cases, a->filter);
        if (l->cases.count == 0)
            status = error_set(error, STATUS_BAD_INPUT, "no case matches '%.100s'", a->filter);
    }
    if (status != STATUS_OK)
        run_list_release(l);
    return status;
}

void run_list_release(struct run_list *l)
{
    for (size_t i = 0; i < l->implementation_count; i++)
        free(l->implementations[i]);
    free(l->implementations);
    suite_release(&l->cases);
    *l = (struct run_list){0};
}

bool run_list_skips(const struct run_list *l, const struct case_source *source,
                    const char *implementation, bool ask, void *context)
{
    char line[2048];
    struct trial trial = {0};
    if (!l->skip)
        return false;
    snprintf(trial.implementation, sizeof trial.implementation, "%s", implementation);
    run_reproduce(l, source, &trial, "verify", line, sizeof line);
    return l->skip(context, source, implementation, line, ask);
}

/* A case of which nothing is to be run is not filled. */
static bool skips_all(const struct run_list *l, const struct case_source *source, void *context)
{
    for (size_t i = 0; i < l->implementation_count; i++)
        if (!run_list_skips(l, source, l->implementations[i], true, context))
            return false;
    for (size_t i = 0; i < l->implementation_count; i++)
        run_list_skips(l, source, l->implementations[i], false, context);
    return true;
}

static enum status open_case(const struct run_list *l, const struct suite_entry *entry,
                             struct case_source *source, struct error *error)
{
    const struct fill *fill = l->fill;
    const enum status status = entry->fill[0] ? fill_find(entry->fill, &fill, error) : STATUS_OK;
    memset(source, 0, sizeof *source);
    if (status != STATUS_OK)
        return status;
    return case_source_open(source, entry->text, fill,
                            entry->has_seed ? entry->seed : l->arguments.seed, error);
}

bool run_list_any_opens(const struct run_list *l)
{
    bool opens = false;
    for (size_t i = 0; i < l->cases.count && !opens; i++) {
        struct case_source source;
        struct error ignored;
        opens = open_case(l, &l->cases.entries[i], &source, &ignored) == STATUS_OK;
        case_source_release(&source);
    }
    return opens;
}

static enum status walk_case(const struct run_list *l, const struct suite_entry *entry,
                             const struct measurement_plan *plan, struct trial_pool *pool,
                             run_visit visit, void *context, bool *stop, struct error *error)
{
    struct case_source source;
    struct arena arena = {.fd = -1};
    char wrong_expected[sizeof error->message] = "";
    enum status status = open_case(l, entry, &source, error);
    if (status == STATUS_OK)
        snprintf(source.name, sizeof source.name, "%.500s", entry->name);
    if (status == STATUS_OK && l->skip && skips_all(l, &source, context)) {
        case_source_release(&source);
        return STATUS_OK;
    }
    if (status == STATUS_OK)
        status = arena_create(&arena, &source.problem, error);
    if (status == STATUS_OK)
        status = case_source_load(&source, &arena, error);
    if (status == STATUS_OK) {
        status = expected_check(&source, &arena, error);
        if (status == STATUS_FAILED) {
            memcpy(wrong_expected, error->message, sizeof wrong_expected);
            status = STATUS_OK;
        }
    }
    const bool in_turn = plan && l->interleaving.rounds > 1 && !wrong_expected[0];
    if (status == STATUS_OK && in_turn)
        status = interleave_case(l, plan, pool, &source, &arena, visit, context, stop, error);
    for (size_t i = 0; i < l->implementation_count && status == STATUS_OK && !*stop && !in_turn;
         i++) {
        struct trial trial;
        if (run_list_skips(l, &source, l->implementations[i], false, context))
            continue;
        status = trial_run(pool, l->implementations[i], &l->options,
                           wrong_expected[0] ? NULL : plan, &arena, &trial, error);
        if (status != STATUS_OK)
            break;
        if (wrong_expected[0] && trial.verdict != VERDICT_SKIPPED) {
            trial.verdict = VERDICT_FAIL;
            snprintf(trial.reason, sizeof trial.reason, "%s", wrong_expected);
        }
        *stop = !visit(context, &source, &trial);
        if (trial.inputs_damaged && !*stop)
            status = case_source_load(&source, &arena, error);
    }
    arena_release(&arena);
    case_source_release(&source);
    return status;
}

enum status run_list_walk(const struct run_list *l, const struct measurement_plan *plan,
                          run_visit visit, void *context, struct error *error)
{
    struct trial_pool *pool;
    enum status first = trial_pool_create(&pool, error);
    if (first != STATUS_OK)
        return first;
    bool stop = false;
    for (size_t i = 0; i < l->cases.count && !stop; i++) {
        struct error one;
        const enum status status =
            walk_case(l, &l->cases.entries[i], plan, pool, visit, context, &stop, &one);
        if (status == STATUS_OK)
            continue;
        /* The last error is left to the caller to print; the others are printed as they come. */
        if (first != STATUS_OK)
            command_error(error);
        *error = one;
        first = first == STATUS_OK ? status : first;
    }
    trial_pool_free(pool);
    return first;
}

/* A word as a shell reads it back. */
static void quote(const char *word, char *out, size_t size)
{
    if (word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                          "-_./@:,+=")] == 0) {
        snprintf(out, size, "%s", word);
        return;
    }
    size_t n = 0;
    for (const char *p = word - 1; n + 6 < size;) {
        if (p < word) {
            out[n++] = '\'';
        } else if (*p == '\'') {
            memcpy(out + n, "'\\''", 4);
            n += 4;
        } else if (*p == 0) {
            out[n++] = '\'';
            break;
        } else {
            out[n++] = *p;
        }
        p++;
    }
    out[n] = 0;
}

void run_changed_options(const struct run_arguments *a, bool device, char *text, size_t size)
{
    const struct run_arguments usual = run_arguments_default();
    const struct {
        const char *name;
        double value, usual;
    } options[] = {{"threads", (double)a->threads, (double)usual.threads},
                   {"device", (double)(device ? a->device : usual.device), (double)usual.device},
                   {"repeat", (double)a->repeat, (double)usual.repeat},
                   {"memory", a->memory_gb, usual.memory_gb},
                   {"timeout", a->timeout_s, usual.timeout_s}};
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].value != options[i].usual)
            n += (size_t)snprintf(text + n, size - n, " --%s %.9g", options[i].name,
                                  options[i].value);
}

void run_reproduce(const struct run_list *l, const struct case_source *source,
                   const struct trial *trial, const char *command, char *line, size_t size)
{
    char implementation[IMPLEMENTATION_NAME_SIZE + 64], text[600], fill[96] = "", rule[128] = "";
    char changed[RUN_CHANGED_SIZE], options[600];
    quote(trial->implementation, implementation, sizeof implementation);
    quote(source->text, text, sizeof text);
    run_changed_options(&l->arguments, true, changed, sizeof changed);
    if (!source->complete)
        snprintf(fill, sizeof fill, " --fill %s --seed %llu", source->fill->name,
                 (unsigned long long)source->seed);
    if (l->options.tolerance.rule == TOLERANCE_FIXED)
        snprintf(rule, sizeof rule, " --tolerance %g,%g", l->options.tolerance.atol,
                 l->options.tolerance.rtol);
    snprintf(options, sizeof options, "%s%s%s%s%s", l->arguments.cls ? " --class " : "",
             l->arguments.cls ? l->arguments.cls : "", rule, changed, fill);
    if (strcmp(command, "check") == 0)
        snprintf(line, size, "assay check%s %s %s", options, text, implementation);
    else
        snprintf(line, size, "assay %s --impl %s%s %s", command, implementation, options, text);
}
