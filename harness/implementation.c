#include "harness/implementation.h"

#include <stdio.h>
#include <string.h>

size_t implementation_count(void)
{
    return implementations_cpu_count + implementation_gpu_count();
}

const struct implementation *implementation_at(size_t index)
{
    if (index < implementations_cpu_count)
        return &implementations_cpu[index];
    /* GPU rows are made from the variant table; a few slots let callers hold several at a time. */
    static struct implementation slots[64];
    const size_t gpu = index - implementations_cpu_count;
    struct implementation *slot = &slots[gpu % (sizeof slots / sizeof *slots)];
    *slot = implementation_gpu_at(gpu);
    return slot;
}

enum status implementation_resolve(const char *name, struct implementation *implementation,
                                   struct error *error)
{
    if (strlen(name) >= IMPLEMENTATION_NAME_SIZE)
        return error_set(error, STATUS_BAD_INPUT,
                         "implementation '%.60s...' is too long: at most "
                         "%d characters",
                         name, IMPLEMENTATION_NAME_SIZE - 1);
    if (strncmp(name, "exec:", 5) == 0)
        return implementation_exec_init(implementation, name, error);
    if (strncmp(name, "plugin:", 7) == 0)
        return implementation_plugin_init(implementation, name, error);
    char known[640] = "";
    size_t used = 0;
    for (size_t i = 0; i < implementation_count(); i++) {
        const struct implementation *row = implementation_at(i);
        if (strcmp(row->name, name) == 0) {
            *implementation = *row;
            return STATUS_OK;
        }
        used += (size_t)snprintf(known + used, sizeof known - used, "%s, ", row->name);
        if (used >= sizeof known)
            used = sizeof known - 1;
    }
    return error_set(
        error, STATUS_BAD_INPUT,
        "unknown implementation '%.60s': known are %splugin:PATH.so, exec:'COMMAND {case} "
        "{output}'",
        name, known);
}
