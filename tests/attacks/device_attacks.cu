// Attacks on device memory, for harness/plugin.h: the kernel of tests/examples/plugin_cuda.cu,
// spoiled in one way. Built once for each with -DATTACK=name; tests/test_attacks_device.sh holds
// what is expected of each:
//
//     write_behind     an element behind y            write_input      an element of x
//     unwritten        the last element of y is left  illegal_address  a kernel that faults
//     cache_output     the first output, again        endless          a kernel that never ends
//     skip_some        every second timed run is left out
//     write_weight_in_release, fault_in_release        right, until what was kept is freed
//     other_stream     all work on a stream of its own, not waited for: right, and to be counted
#define assay_plugin(arguments) honest_plugin(arguments)
#include "../examples/plugin_cuda.cu"
#undef assay_plugin

static int64_t y_count(const struct assay_call *call)
{
    const struct assay_plugin_problem *p = call->problem;
    return p->batch * p->out_channels * p->output_h * p->output_w;
}

__global__ void set_kernel(float *at, float value)
{
    *at = value;
}

__global__ void endless_kernel(volatile float *at)
{
    while (*at != 12345.0f)
        ;
}

static void set(struct assay_call *call, float *at, float value)
{
    set_kernel<<<1, 1, 0, (cudaStream_t)call->stream>>>(at, value);
}

static int write_behind(struct assay_call *call)
{
    run(call);
    set(call, call->y + y_count(call), 0.5f);
    return 0;
}

static int write_input(struct assay_call *call)
{
    run(call);
    set(call, (float *)call->x, 0.5f);
    return 0;
}

static int unwritten(struct assay_call *call)
{
    static float kept;
    float *last = call->y + y_count(call) - 1;
    cudaMemcpyAsync(&kept, last, sizeof kept, cudaMemcpyDeviceToHost, (cudaStream_t)call->stream);
    run(call);
    cudaMemcpyAsync(last, &kept, sizeof kept, cudaMemcpyHostToDevice, (cudaStream_t)call->stream);
    return 0;
}

static int illegal_address(struct assay_call *call)
{
    set(call, (float *)16, 0.5f);
    return 0;
}

static int cache_output(struct assay_call *call)
{
    static float *kept;
    const size_t bytes = (size_t)y_count(call) * sizeof(float);
    const cudaStream_t stream = (cudaStream_t)call->stream;
    if (!kept) {
        run(call);
        cudaMalloc(&kept, bytes);
        cudaMemcpyAsync(kept, call->y, bytes, cudaMemcpyDeviceToDevice, stream);
    }
    cudaMemcpyAsync(call->y, kept, bytes, cudaMemcpyDeviceToDevice, stream);
    return 0;
}

static int endless(struct assay_call *call)
{
    endless_kernel<<<1, 1, 0, (cudaStream_t)call->stream>>>(call->y);
    return 0;
}

static int skip_some(struct assay_call *call)
{
    static int runs;
    runs++;
    return runs > 4 && runs % 2 ? 0 : run(call);
}

static int write_weight_in_release(struct assay_call *call)
{
    return run(call);
}

static int fault_in_release(struct assay_call *call)
{
    return run(call);
}

static int other_stream(struct assay_call *call)
{
    static cudaStream_t own;
    if (!own)
        cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking);
    struct assay_call other = *call;
    other.stream = own;
    return run(&other);
}

static void release(struct assay_call *call)
{
    if (ATTACK == write_weight_in_release)
        set(call, (float *)call->weight, 0.5f);
    if (ATTACK == fault_in_release)
        set(call, (float *)16, 0.5f);
}

extern "C" const struct assay_plugin *assay_plugin(void)
{
    static struct assay_plugin plugin;
    plugin = *honest_plugin();
    plugin.name = "an attack on the device";
    plugin.run = ATTACK;
    plugin.release = release;
    return &plugin;
}
