/* assay info: the machine and what can run on it. */
#include <stdio.h>

#include <jansson.h>

#include "gpu/gpu.h"
#include "harness/arena.h"
#include "harness/command.h"
#include "harness/implementation.h"
#include "harness/machine.h"
#include "harness/options.h"
#include "ref/descriptor.h"
#include "ref/fill.h"

/* "" when the implementation runs the problem here, else why not. */
static void why_not(const struct implementation *i, const struct problem *problem, char *reason,
                    size_t size)
{
    const struct run_options options = {.threads = 1, .cls = CLASS_FP32};
    reason[0] = 0;
    if (!i->supports(i, problem, &options, reason, size) && reason[0] == 0)
        snprintf(reason, size, "not supported");
}

static void print_gpus(void)
{
    struct error error;
    if (gpu_status(&error) != STATUS_OK) {
        printf("gpu        none: %s\n", error.message);
        return;
    }
    for (int d = 0; d < gpu_device_count(); d++) {
        struct gpu_device_info g;
        if (gpu_device_info_get(d, &g, &error) != STATUS_OK) {
            printf("gpu %d      %s\n", d, error.message);
            continue;
        }
        printf("gpu %d      %s, compute capability %d.%d, %d multiprocessors, %.1f GB (%.1f free), "
               "L2 %.0f MB\n",
               d, g.name, g.compute_major, g.compute_minor, g.multiprocessors,
               (double)g.memory_bytes * 1e-9, (double)g.memory_free_bytes * 1e-9,
               (double)g.l2_bytes * 1e-6);
        printf("           driver %d.%d, runtime %d.%d, cuDNN %s, clocks: SM %d MHz (at most %d), "
               "memory %d MHz\n",
               g.driver_version / 1000, g.driver_version % 1000 / 10, g.runtime_version / 1000,
               g.runtime_version % 1000 / 10, g.cudnn, g.sm_clock_mhz, g.sm_clock_max_mhz,
               g.memory_clock_mhz);
    }
}

static void print_text(const struct machine *m, const struct problem *problem)
{
    char libraries[256], reason[512], descriptor[DESCRIPTOR_SIZE];
    libraries_describe(libraries, sizeof libraries);
    descriptor_print(problem, descriptor, sizeof descriptor);
    printf("assay      %s, commit %s\n", assay_version(), commit_get(NULL));
    printf("cpu        %s, %d cores, %.1f GB (%.1f available)\n", m->cpu, m->cores, m->memory_gb,
           (double)memory_available() * 1e-9);
    printf("os         %s\n", m->os);
    print_gpus();
    printf("libraries  %s\n", libraries);
    printf("fills      ");
    for (size_t i = 0; i < fill_count; i++)
        printf("%s%s", i ? ", " : "", fill_table[i].name);
    printf("\nproblem    %s: %.1f GFLOP, %.3f GB\n\nimplementations, for that problem:\n",
           descriptor, problem_flops(problem) * 1e-9, problem_bytes(problem) * 1e-9);
    for (size_t i = 0; i < implementation_count(); i++) {
        const struct implementation *row = implementation_at(i);
        why_not(row, problem, reason, sizeof reason);
        printf("  %s %-22s %-7s %s%s%s%s\n", reason[0] ? "-" : "✓", row->name,
               arithmetic_class_get(row->cls)->name, row->summary,
               row->slow ? "; only where it is named" : "", reason[0] ? "; skipped: " : "", reason);
    }
}

static json_t *gpus_json(void)
{
    json_t *array = json_array();
    struct error error;
    for (int d = 0; d < gpu_device_count(); d++) {
        struct gpu_device_info g;
        if (gpu_device_info_get(d, &g, &error) == STATUS_OK)
            json_array_append_new(
                array, json_pack("{s:s,s:s,s:i,s:f,s:i,s:i,s:s,s:i,s:i,s:i}", "name", g.name,
                                 "uuid", g.uuid, "multiprocessors", g.multiprocessors, "memory_gb",
                                 (double)g.memory_bytes * 1e-9, "driver", g.driver_version,
                                 "runtime", g.runtime_version, "cudnn", g.cudnn, "sm_clock_mhz",
                                 g.sm_clock_mhz, "sm_clock_max_mhz", g.sm_clock_max_mhz,
                                 "memory_clock_mhz", g.memory_clock_mhz));
    }
    return array;
}

static void print_json(const struct machine *m, const struct problem *problem)
{
    char libraries[256], reason[512];
    struct error error;
    libraries_describe(libraries, sizeof libraries);
    json_t *rows = json_array();
    for (size_t i = 0; i < implementation_count(); i++) {
        const struct implementation *row = implementation_at(i);
        why_not(row, problem, reason, sizeof reason);
        json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:o}", "name", row->name, "class",
                                              arithmetic_class_get(row->cls)->name, "summary",
                                              row->summary, "skipped",
                                              reason[0] ? json_string(reason) : json_null()));
    }
    const enum status gpu = gpu_status(&error);
    json_t *o = json_pack("{s:s,s:s,s:s,s:i,s:f,s:s,s:s,s:o,s:o,s:o}", "version", assay_version(),
                          "commit", commit_get(NULL), "cpu", m->cpu, "cores", m->cores, "memory_gb",
                          m->memory_gb, "os", m->os, "libraries", libraries, "gpus", gpus_json(),
                          "gpu_status", gpu == STATUS_OK ? json_null() : json_string(error.message),
                          "implementations", rows);
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(o);
}

int cmd_info(int argc, char **argv)
{
    bool json = false;
    const struct option options[] = {
        {"json", OPTION_FLAG, &json, NULL, "one JSON object", 0, 0},
    };
    const struct option_set set = {"info", "[--json] [DESCRIPTOR]",
                                   "Shows the machine, CPU, GPUs and libraries, and which "
                                   "implementations support the problem\n"
                                   "(default: home).",
                                   options, sizeof options / sizeof *options};
    struct error error;
    struct machine machine;
    struct problem problem = problem_home();
    int words;
    bool helped;
    enum status status = options_parse(&set, argc, argv, &words, &helped, &error);
    if (helped)
        return STATUS_OK;
    if (status == STATUS_OK && words > 1)
        status = error_set(&error, STATUS_BAD_INPUT, "info takes one descriptor, found '%.60s' too",
                           argv[1]);
    if (status == STATUS_OK && words == 1)
        status = descriptor_parse(argv[0], &problem, &error);
    if (status != STATUS_OK)
        return command_error(&error);
    machine_get(&machine);
    if (json)
        print_json(&machine, &problem);
    else
        print_text(&machine, &problem);
    return STATUS_OK;
}
