#include "harness/machine.h"

#include <hdf5.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "gpu/gpu.h"
#include "harness/provenance.h"
#include "ref/ceiling.h"
#include "ref/strip_kernels.h"

static void read_cpu_name(char *name, size_t size)
{
    snprintf(name, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            line[strcspn(line, "\n")] = 0;
            snprintf(name, size, "%.*s", (int)size - 1, colon + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

void machine_get(struct machine *m)
{
    *m = (struct machine){0};
    read_cpu_name(m->cpu, sizeof m->cpu);
    cpu_set_t set;
    m->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    m->memory_gb = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) * 1e-9;
    struct utsname name;
    if (uname(&name) == 0)
        snprintf(m->os, sizeof m->os, "%s %.60s %.20s", name.sysname, name.release, name.machine);
    struct gpu_device_info gpu;
    struct error error;
    if (gpu_device_count() > 0 && gpu_device_info_get(0, &gpu, &error) == STATUS_OK)
        snprintf(m->id, sizeof m->id, "%s, %d cores, %s", m->cpu, m->cores, gpu.name);
    else
        snprintf(m->id, sizeof m->id, "%s, %d cores", m->cpu, m->cores);
}

const char *commit_get(const char *asked)
{
    const char *from_environment = getenv("ASSAY_COMMIT");
    if (asked)
        return asked;
    return from_environment && *from_environment ? from_environment : provenance_build_commit();
}

const char *assay_version(void)
{
    return "0.1.0";
}

void libraries_describe(char *text, size_t size)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, size, "%.80s; HDF5 %u.%u.%u; jansson %s; vector kernels %s", blas_description(),
             major, minor, release, JANSSON_VERSION, strip_kernels_get()->isa);
}
