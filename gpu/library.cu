#include "gpu/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cuda_folders =
    "/usr/local/cuda/lib64:/usr/local/cuda/lib:/usr/local/cuda/targets/x86_64-linux/lib";

static void *open_in(const char *folders, const char *name)
{
    char path[1024];
    while (folders && *folders) {
        const size_t length = strcspn(folders, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)length, folders, name);
        void *library = length > 0 ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : NULL;
        if (library)
            return library;
        folders += length + (folders[length] == ':');
    }
    return NULL;
}

void *library_open(const char *const *names, char *reason, size_t reason_size)
{
    for (const char *const *name = names; *name; name++) {
        void *library = open_in(getenv("ASSAY_LIBRARY_PATH"), *name);
        if (!library)
            library = dlopen(*name, RTLD_NOW | RTLD_GLOBAL);
        if (!library)
            library = open_in(cuda_folders, *name);
        if (library)
            return library;
    }
    const char *why = dlerror();
    snprintf(reason, reason_size, "cannot load '%s': %.200s; name its folder in ASSAY_LIBRARY_PATH",
             names[0], why ? why : "not found");
    return NULL;
}

void *library_function(void *library, const char *name, char *reason, size_t reason_size)
{
    void *function = dlsym(library, name);
    if (!function)
        snprintf(reason, reason_size, "the library has no function '%s'", name);
    return function;
}
