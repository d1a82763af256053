#include "harness/series.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool series_on_gpu(const char *implementation)
{
    return strncmp(implementation, "gpu-", 4) == 0 || strncmp(implementation, "cudnn-", 6) == 0;
}

struct series_key series_key_of(const struct record *r)
{
    return (struct series_key){
        .machine = r->machine,
        .problem = r->problem,
        .data = r->fill ? r->fill : r->case_name,
        .implementation = r->implementation,
        .cls = r->class,
        .threads = isnan(r->threads) || series_on_gpu(r->implementation) ? 0 : (int64_t)r->threads};
}

static bool same_key(const struct series_key *a, const struct series_key *b)
{
    return a->implementation == b->implementation && a->problem == b->problem &&
           a->machine == b->machine && a->data == b->data && a->cls == b->cls &&
           a->threads == b->threads;
}

static size_t hash_key(const struct series_key *k)
{
    const void *parts[] = {k->machine,        k->problem, k->data,
                           k->implementation, k->cls,     (const void *)(intptr_t)k->threads};
    return (size_t)text_hash((const char *)parts, sizeof parts);
}

static int compare_texts(const char *a, const char *b)
{
    return a == b ? 0 : strcmp(a ? a : "", b ? b : "");
}

/* Digits in problem names compare as numbers: mb8 before mb16. */
static int compare_problems(const char *a, const char *b)
{
    return a == b ? 0 : strverscmp(a, b);
}

static int compare_series(const void *pa, const void *pb)
{
    const struct series *a = pa, *b = pb;
    int c = compare_texts(a->key.machine, b->key.machine);
    c = c ? c : compare_problems(a->key.problem, b->key.problem);
    c = c ? c : compare_texts(a->key.data, b->key.data);
    return c ? c : (a->records[0] > b->records[0]) - (a->records[0] < b->records[0]);
}

static void find_other_threads(struct series_list *list)
{
    for (int64_t i = 0; i < list->count; i++) {
        struct series_key *a = &list->series[i].key;
        for (int64_t k = i + 1; k < list->count; k++) {
            struct series_key *b = &list->series[k].key;
            if (a->machine != b->machine || a->problem != b->problem || a->data != b->data)
                break; /* they are sorted by these */
            if (a->implementation == b->implementation && a->cls == b->cls)
                a->other_threads = b->other_threads = true;
        }
    }
}

enum status series_build(const struct record_set *set,
                         bool (*keep)(const void *context, const struct record *record),
                         const void *context, struct series_list *list, struct error *error)
{
    *list = (struct series_list){0};
    size_t slots = 64;
    while (slots < 2 * (size_t)set->count + 2)
        slots *= 2;
    int64_t *table = malloc(slots * sizeof *table), *next = NULL, *of = NULL;
    of = malloc(((size_t)set->count + 1) * sizeof *of);
    list->storage = malloc(((size_t)set->count + 1) * sizeof *list->storage);
    enum status status = STATUS_OK;
    if (!table || !of || !list->storage)
        goto memory;
    memset(table, 0xff, slots * sizeof *table);
    int64_t capacity = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const struct record *r = &set->records[i];
        of[i] = -1;
        if (strcmp(r->kind, "bench") != 0 || (keep && !keep(context, r)))
            continue;
        const struct series_key key = series_key_of(r);
        size_t k = hash_key(&key) & (slots - 1);
        while (table[k] >= 0 && !same_key(&list->series[table[k]].key, &key))
            k = (k + 1) & (slots - 1);
        if (table[k] < 0) {
            if (list->count == capacity) {
                capacity = capacity ? 2 * capacity : 64;
                struct series *grown = realloc(list->series, (size_t)capacity * sizeof *grown);
                if (!grown)
                    goto memory;
                list->series = grown;
            }
            list->series[list->count] = (struct series){.key = key};
            table[k] = list->count++;
        }
        of[i] = table[k];
        list->series[of[i]].count++;
    }
    next = calloc((size_t)list->count + 1, sizeof *next);
    if (!next)
        goto memory;
    for (int64_t s = 0, at = 0; s < list->count; s++) {
        next[s] = at;
        list->series[s].records = list->storage + at;
        at += list->series[s].count;
    }
    for (int64_t i = 0; i < set->count; i++)
        if (of[i] >= 0)
            list->storage[next[of[i]]++] = i;
    if (list->count > 0)
        qsort(list->series, (size_t)list->count, sizeof *list->series, compare_series);
    find_other_threads(list);
    goto out;
memory:
    status = error_set(error, STATUS_ENVIRONMENT, "out of memory for the series");
    series_release(list);
out:
    free(table);
    free(of);
    free(next);
    return status;
}

void series_release(struct series_list *list)
{
    free(list->series);
    free(list->storage);
    *list = (struct series_list){0};
}

int series_compare_age(const struct record *a, const struct record *b)
{
    if (a->commit_time && b->commit_time && a->commit_time != b->commit_time)
        return strcmp(a->commit_time, b->commit_time);
    return compare_texts(a->time, b->time);
}

void series_problem_text(const struct series_key *key, char *text, size_t size)
{
    const bool usual = !key->data || strcmp(key->data, "conditioned") == 0;
    snprintf(text, size, "%s%s%s", key->problem, usual ? "" : ", ", usual ? "" : key->data);
}

void series_implementation_text(const struct series_key *key, char *text, size_t size)
{
    int n = snprintf(text, size, "%s", key->implementation);
    if (key->other_threads && key->threads > 0 && n >= 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ", %lld thread%s", (long long)key->threads,
                 key->threads == 1 ? "" : "s");
}
