#include "gpu/cudnn_api.h"

#include <pthread.h>
#include <stdio.h>

#include "gpu/cudnn.h"
#include "gpu/library.h"

const struct cudnn_api *cudnn_load(char *reason, size_t reason_size)
{
    static const char *const names[] = {"libcudnn.so.9", NULL};
    static struct cudnn_api api;
    static char why[256];
    static int state; /* 0: not tried, 1: loaded, -1: absent */
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    if (state == 0) {
        void *library = library_open(names, why, sizeof why);
        bool all = library != NULL;
#define GET(field, name)                                                                           \
    all = all && (*(void **)&api.field = library_function(library, name, why, sizeof why))
        GET(version, "cudnnGetVersion");
        GET(create, "cudnnCreate");
        GET(set_stream, "cudnnSetStream");
        GET(error_string, "cudnnGetErrorString");
        GET(descriptor_create, "cudnnBackendCreateDescriptor");
        GET(descriptor_destroy, "cudnnBackendDestroyDescriptor");
        GET(finalize, "cudnnBackendFinalize");
        GET(set, "cudnnBackendSetAttribute");
        GET(get, "cudnnBackendGetAttribute");
        GET(execute, "cudnnBackendExecute");
#undef GET
        state = all ? 1 : -1;
    }
    pthread_mutex_unlock(&mutex);
    if (state > 0)
        return &api;
    snprintf(reason, reason_size, "%s", why);
    return NULL;
}

bool cudnn_version(char *text, size_t size)
{
    const struct cudnn_api *api = cudnn_load(text, size);
    if (!api)
        return false;
    const int v = (int)api->version();
    snprintf(text, size, "%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    return true;
}
