#include "harness/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness/guard.h"
#include "harness/tensor_hash.h"

#define PAGE ((size_t)4096)
#define GUARD PAGE /* bytes on either side, at least */

/* Quiet NaNs with payloads that neither arithmetic nor a conversion makes. */
const uint32_t arena_poison[ARENA_POISONS] = {0x7fd5a55au, 0xffeabcdeu};

enum { BUFFER_X, BUFFER_WEIGHT, BUFFER_CONV_BIAS, BUFFER_BIAS, BUFFER_Y, BUFFER_COUNT };
static const char *const buffer_names[BUFFER_COUNT] = {"x", "weight", "conv_bias", "bias", "y"};

struct layout {
    size_t offset[BUFFER_COUNT], bytes[BUFFER_COUNT];
    size_t total;
};

static size_t round_up(size_t n)
{
    return (n + PAGE - 1) / PAGE * PAGE;
}

static struct layout layout_of(const struct problem *p)
{
    struct layout l = {.bytes = {[BUFFER_X] = (size_t)problem_input_count(p) * sizeof(float),
                                 [BUFFER_WEIGHT] = (size_t)problem_weight_count(p) * sizeof(float),
                                 [BUFFER_CONV_BIAS] =
                                     p->has_conv_bias ? (size_t)p->out_channels * sizeof(float) : 0,
                                 [BUFFER_BIAS] = (size_t)p->bias_count * sizeof(float),
                                 [BUFFER_Y] = (size_t)problem_output_count(p) * sizeof(float)}};
    size_t at = round_up(sizeof(struct measurement));
    for (int i = 0; i < BUFFER_COUNT; i++) {
        at += GUARD;
        l.offset[i] = at;
        at += round_up(l.bytes[i] + GUARD);
    }
    l.total = at;
    return l;
}

size_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    unsigned long long kib = 0;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %llu", &kib) == 1;
    if (file)
        fclose(file);
    return found ? (size_t)kib * 1024 : SIZE_MAX;
}

static void set_pointers(struct arena *a, const struct layout *l)
{
    float **const to[BUFFER_COUNT] = {&a->x, &a->weight, &a->conv_bias, &a->bias, &a->y};
    for (int i = 0; i < BUFFER_COUNT; i++)
        *to[i] = (float *)(void *)(a->base + l->offset[i]);
    a->measurement = (struct measurement *)(void *)a->base;
}

/* Calls `use` for the guard before and the guard behind every tensor. */
static bool each_guard(const struct arena *a, bool (*use)(char *guard, size_t bytes), int *buffer,
                       bool *behind)
{
    const struct layout l = layout_of(&a->problem);
    for (*buffer = 0; *buffer < BUFFER_COUNT; ++*buffer) {
        char *start = a->base + l.offset[*buffer];
        *behind = false;
        if (!use(start - GUARD, GUARD))
            return false;
        *behind = true;
        const size_t bytes = l.bytes[*buffer];
        if (!use(start + bytes, round_up(bytes + GUARD) - bytes))
            return false;
    }
    return true;
}

static bool fill(char *guard, size_t bytes)
{
    guard_fill(guard, bytes);
    return true;
}

static bool is_intact(char *guard, size_t bytes)
{
    return guard_is_intact(guard, bytes);
}

/* A limit on file sizes holds for shared memory, too. */
static enum status no_memory_file(size_t bytes, int code, struct error *error)
{
    struct rlimit limit;
    if (code == EFBIG && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
        return error_set(error, STATUS_ENVIRONMENT,
                         "the case needs %zu bytes of shared memory, and files are limited to %llu "
                         "(ulimit -f)",
                         bytes, (unsigned long long)limit.rlim_cur);
    return error_set(error, STATUS_ENVIRONMENT, "cannot make %.1f GB of shared memory: %s",
                     (double)bytes * 1e-9, strerror(code));
}

enum status arena_create(struct arena *a, const struct problem *problem, struct error *error)
{
    *a = (struct arena){.fd = -1, .problem = *problem};
    const struct layout l = layout_of(problem);
    if (l.total > memory_available())
        return error_set(error, STATUS_ENVIRONMENT,
                         "out of memory: the case needs %.1f GB, %.1f GB are available; use a "
                         "smaller batch",
                         (double)l.total * 1e-9, (double)memory_available() * 1e-9);
    a->size = l.total;
    a->fd = memfd_create("assay-case", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Sealed, so that nobody who holds the file can take it away from under the program. */
    if (a->fd < 0 || ftruncate(a->fd, (off_t)l.total) != 0 ||
        fcntl(a->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        const int e = errno;
        arena_release(a);
        return no_memory_file(l.total, e, error);
    }
    a->base = mmap(NULL, l.total, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (a->base == MAP_FAILED) {
        const int e = errno;
        a->base = NULL;
        arena_release(a);
        return error_set(error, STATUS_ENVIRONMENT, "cannot map %.1f GB of shared memory: %s",
                         (double)l.total * 1e-9, strerror(e));
    }
    set_pointers(a, &l);
    arena_fill_guards(a);
    return STATUS_OK;
}

void arena_fill_guards(struct arena *a)
{
    int buffer;
    bool behind;
    each_guard(a, fill, &buffer, &behind);
}

enum status arena_map(struct arena *a, int fd, const struct problem *problem, struct error *error)
{
    *a = (struct arena){.fd = fd, .problem = *problem};
    const struct layout l = layout_of(problem);
    a->size = l.total;
    a->base = mmap(NULL, l.total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (a->base == MAP_FAILED) {
        const int e = errno;
        a->base = NULL;
        arena_release(a);
        return error_set(error, STATUS_ENVIRONMENT, "cannot map the shared tensors: %s",
                         strerror(e));
    }
    set_pointers(a, &l);
#ifdef MADV_POPULATE_READ
    /* The pages are there, written by whoever made the arena: all at once cost a fifth of one page
     * fault each. */
    madvise(a->base, l.total, MADV_POPULATE_READ);
#endif
    return STATUS_OK;
}

void arena_release(struct arena *a)
{
    if (a->base)
        munmap(a->base, a->size);
    if (a->size && a->fd >= 0)
        close(a->fd);
    *a = (struct arena){.fd = -1};
}

struct params arena_params(const struct arena *a)
{
    return (struct params){.weight = a->weight,
                           .conv_bias = a->problem.has_conv_bias ? a->conv_bias : NULL,
                           .bias = a->bias};
}

void arena_poison_output(struct arena *a, int which)
{
    uint32_t *y = (uint32_t *)(void *)a->y;
    const int64_t n = problem_output_count(&a->problem);
    const uint32_t poison = arena_poison[which];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] = poison;
}

enum status arena_check_guards(const struct arena *a, struct error *error)
{
    int buffer;
    bool behind;
    if (each_guard(a, is_intact, &buffer, &behind))
        return STATUS_OK;
    return error_set(error, STATUS_FAILED, "wrote outside its output: memory %s '%s' was changed",
                     behind ? "behind" : "before", buffer_names[buffer]);
}

int64_t arena_count_poison(const struct arena *a, int which)
{
    const uint32_t *y = (const uint32_t *)(const void *)a->y, poison = arena_poison[which];
    const int64_t n = problem_output_count(&a->problem);
    int64_t count = 0;
#pragma omp parallel for schedule(static) reduction(+ : count)
    for (int64_t i = 0; i < n; i++)
        count += y[i] == poison;
    return count;
}

bool arena_has_poison(const struct arena *a, int which)
{
    const uint32_t *y = (const uint32_t *)(const void *)a->y, poison = arena_poison[which];
    const int64_t count = problem_output_count(&a->problem), step = count / 4096 + 1;
    for (int64_t i = 0; i < count; i += step)
        if (y[i] == poison)
            return true;
    return false;
}

struct arena_inputs arena_hash_inputs(const struct arena *a)
{
    const struct layout l = layout_of(&a->problem);
    const float *const inputs[ARENA_INPUTS] = {a->x, a->weight, a->conv_bias, a->bias};
    struct arena_inputs h;
    for (int i = 0; i < ARENA_INPUTS; i++)
        h.hashes[i] = tensor_hash(inputs[i], (int64_t)(l.bytes[i] / sizeof(float)));
    return h;
}

enum status arena_check_inputs(const struct arena *a, const struct arena_inputs *before,
                               struct error *error)
{
    const struct arena_inputs now = arena_hash_inputs(a);
    for (int i = 0; i < ARENA_INPUTS; i++)
        if (now.hashes[i] != before->hashes[i])
            return error_set(error, STATUS_FAILED, "wrote to its input '%s'", buffer_names[i]);
    return STATUS_OK;
}

void arena_rotate_input(struct arena *a, int64_t steps)
{
    const int64_t n = problem_input_count(&a->problem);
    if (n < 2 || (steps %= n) == 0)
        return;
    /* Short ways round, through a small buffer: far less memory than a second x. */
    enum { ROOM = 4096 };
    float kept[ROOM];
    const bool forward = steps > 0;
    for (int64_t left = forward ? steps : -steps; left > 0;) {
        const int64_t step = left < ROOM ? left : ROOM;
        const size_t small = (size_t)step * sizeof(float),
                     rest = (size_t)(n - step) * sizeof(float);
        memcpy(kept, forward ? a->x : a->x + n - step, small);
        memmove(forward ? a->x : a->x + step, forward ? a->x + step : a->x, rest);
        memcpy(forward ? a->x + n - step : a->x, kept, small);
        left -= step;
    }
}
