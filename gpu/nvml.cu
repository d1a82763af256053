#include "gpu/nvml.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <string.h>

#include "gpu/library.h"

/* What is used of nvml.h. */
typedef void *nvml_device;
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2, NVML_TEMPERATURE_GPU = 0 };

static struct nvml {
    int state; /* 0: not tried, 1: loaded, -1: absent */
    int (*init)(void);
    int (*handle)(const char *, nvml_device *);
    int (*clock)(nvml_device, int, unsigned *);
    int (*clock_max)(nvml_device, int, unsigned *);
    int (*reasons)(nvml_device, unsigned long long *);
    int (*power)(nvml_device, unsigned *);
    int (*temperature)(nvml_device, int, unsigned *);
} nvml;

static bool nvml_load(void)
{
    static const char *const names[] = {"libnvidia-ml.so.1", NULL};
    char reason[256];
    void *library;
    if (nvml.state != 0)
        return nvml.state > 0;
    nvml.state = -1;
    if (!(library = library_open(names, reason, sizeof reason)))
        return false;
#define GET(field, name)                                                                           \
    *(void **)&nvml.field = library_function(library, name, reason, sizeof reason)
    GET(init, "nvmlInit_v2");
    GET(handle, "nvmlDeviceGetHandleByPciBusId_v2");
    GET(clock, "nvmlDeviceGetClockInfo");
    GET(clock_max, "nvmlDeviceGetMaxClockInfo");
    GET(reasons, "nvmlDeviceGetCurrentClocksEventReasons");
    if (!nvml.reasons)
        GET(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    GET(power, "nvmlDeviceGetPowerUsage");
    GET(temperature, "nvmlDeviceGetTemperature");
#undef GET
    if (nvml.init && nvml.handle && nvml.init() == 0)
        nvml.state = 1;
    return nvml.state > 0;
}

void nvml_read(int device, struct nvml_reading *reading)
{
    char bus[32];
    nvml_device handle;
    memset(reading, 0, sizeof *reading);
    if (!nvml_load() || cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess ||
        nvml.handle(bus, &handle) != 0)
        return;
    if (nvml.clock) {
        nvml.clock(handle, NVML_CLOCK_SM, &reading->sm_clock_mhz);
        nvml.clock(handle, NVML_CLOCK_MEM, &reading->memory_clock_mhz);
    }
    if (nvml.clock_max)
        nvml.clock_max(handle, NVML_CLOCK_SM, &reading->sm_clock_max_mhz);
    if (nvml.reasons && nvml.reasons(handle, &reading->throttle) == 0)
        reading->throttle &= ~1ull; /* GPU idle */
    if (nvml.power)
        nvml.power(handle, &reading->power_mw);
    if (nvml.temperature)
        nvml.temperature(handle, NVML_TEMPERATURE_GPU, &reading->temperature_c);
}

void nvml_throttle_text(unsigned long long throttle, char *text, size_t size)
{
    static const struct {
        unsigned long long bit;
        const char *name;
    } reasons[] = {
        {0x2, "applications_clocks"},
        {0x4, "sw_power_cap"},
        {0x8, "hw_slowdown"},
        {0x10, "sync_boost"},
        {0x20, "sw_thermal_slowdown"},
        {0x40, "hw_thermal_slowdown"},
        {0x80, "hw_power_brake_slowdown"},
        {0x100, "display_clocks"},
    };
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons && used < size; i++)
        if (throttle & reasons[i].bit)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "," : "",
                                     reasons[i].name);
}
