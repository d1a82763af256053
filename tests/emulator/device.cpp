/* The emulator's fibers, barriers, copies and products (tests/emulator/device.hpp). */
#include "tests/emulator/device.hpp"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cuda_runtime.h>

#include "gpu/async_copy.cuh"
#include "gpu/wgmma.cuh"

namespace
{

constexpr size_t kStackBytes = 64 * 1024;
constexpr long kMostRounds = 2000000; /* of all warps, in one cluster: then it is a deadlock */

/* Waits of a fixed number of threads for each other. */
struct meeting {
    int here = 0;
    uint64_t number = 0;
};

struct warp {
    struct meeting meeting;
    uint64_t values[2][32]; /* of a meeting and of the one before */
};

struct product {
    uint64_t a, b;
    bool start;
};

struct warpgroup {
    struct meeting meeting;
    std::vector<struct product> products; /* that were not waited for */
    std::vector<size_t> ends;             /* of groups, counted from the first product ever */
    size_t run = 0;                       /* products that were waited for */
    int columns = 0;
    float *d[128] = {};
    size_t given[128] = {}, committed[128] = {}; /* products and groups, by each thread */
};

struct barrier {
    int count, left;
    int64_t bytes;
    uint64_t phase; /* complete ones */
};

struct block {
    int rank;
    int live; /* threads */
    uint8_t *shared;
    struct named {
        struct meeting meeting;
        bool any[2] = {false, false}; /* of a meeting and of the one before */
    };
    std::map<int, struct named> barriers;
    std::vector<struct warp> warps;
    std::vector<struct warpgroup> groups;
};

struct fiber {
    struct emulated_place place;
    struct block *block;
    bool live = true;
    char *stack = nullptr;
    jmp_buf context;
    bool begun = false;
    std::shared_ptr<int> copies = std::make_shared<int>(0); /* of the current group, unfinished */
    std::vector<std::shared_ptr<int>> groups;               /* committed */
    std::shared_ptr<int> small_copies = std::make_shared<int>(0); /* of 4 or 16 bytes, unfinished */
    std::vector<std::function<void()>> held;                      /* of them, until a wait */
};

std::mt19937 order;
std::vector<std::function<void()>> later;
std::vector<std::unique_ptr<struct block>> blocks; /* of the cluster that runs */
std::map<uint32_t, struct barrier> barriers;
struct meeting cluster_meeting;
uint32_t shared_bytes;
struct fiber *current;
const std::function<void()> *entry;
jmp_buf scheduler;
ucontext_t scheduler_context;

void fiber_main()
{
    (*entry)();
    current->live = false;
    for (;;)
        emulated_yield();
}

/* A fiber until it yields. */
void resume(struct fiber &f)
{
    current = &f;
    if (_setjmp(scheduler) == 0) {
        if (f.begun)
            _longjmp(f.context, 1);
        f.begun = true;
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = f.stack;
        context.uc_stack.ss_size = kStackBytes;
        context.uc_link = nullptr;
        makecontext(&context, fiber_main, 0);
        swapcontext(&scheduler_context, &context);
    }
}

/* Waits until `count` threads have come. */
void meet(struct meeting &m, int count)
{
    const uint64_t number = m.number;
    if (++m.here == count) {
        m.here = 0;
        m.number++;
    }
    while (m.number == number)
        emulated_yield();
}

struct barrier &barrier_at(uint32_t address)
{
    emulated_shared(address, 8);
    const auto at = barriers.find(address);
    if (at == barriers.end())
        emulated_failure("no barrier was initialised at", address);
    return at->second;
}

void barrier_settle(struct barrier &b)
{
    if (b.left == 0 && b.bytes == 0) {
        b.phase++;
        b.left = b.count;
    }
}

/* Row `row` of an operand, 16 values of k. */
void operand_row(float (&to)[16], const struct block &b, uint64_t descriptor, int row)
{
    const uint32_t address = (uint32_t)(descriptor & 0x3fff) << 4;
    const uint32_t k_stride = (uint32_t)(descriptor >> 16 & 0x3fff) << 4;
    const uint32_t row_stride = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    for (int k = 0; k < 16; k++) {
        const uint32_t at =
            address + row / 8 * row_stride + k / 8 * k_stride + row % 8 * 16 + k % 8 * 2;
        _Float16 v;
        if (at + sizeof v > shared_bytes)
            emulated_failure("an operand is read outside shared memory, at", at);
        memcpy(&v, b.shared + at, sizeof v);
        to[k] = (float)v;
    }
}

/* The value of the fragment that holds (row, column); gpu/wgmma.cuh has the picture. */
float &fragment(struct warpgroup &g, int row, int column)
{
    const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
    return g.d[thread][4 * (column / 8) + row % 16 / 8 * 2 + column % 2];
}

/* All groups but the last `pending`. */
void products_run(const struct block &b, struct warpgroup &g, size_t pending)
{
    for (int thread = 0; thread < 128; thread++)
        if (g.given[thread] != g.given[0] || g.committed[thread] != g.committed[0])
            emulated_failure("threads of a warpgroup gave different numbers of products",
                             (long)g.given[thread], (long)g.given[0]);
    if (g.ends.size() <= pending)
        return;
    const size_t end = g.ends[g.ends.size() - 1 - pending];
    for (; g.run < end; g.run++) {
        const struct product p = g.products.front();
        g.products.erase(g.products.begin());
        float rows[64][16], columns[256][16];
        for (int row = 0; row < 64; row++)
            operand_row(rows[row], b, p.a, row);
        for (int column = 0; column < g.columns; column++)
            operand_row(columns[column], b, p.b, column);
        for (int row = 0; row < 64; row++)
            for (int column = 0; column < g.columns; column++) {
                float &d = fragment(g, row, column);
                float sum = p.start ? 0.0f : d;
                for (int k = 0; k < 16; k++)
                    sum += rows[row][k] * columns[column][k];
                d = sum;
            }
    }
}

/* Some of what is to be done later. */
void do_some()
{
    size_t count = order() % 4 == 0 ? later.size() / 2 + 1 : order() % 3;
    for (; count > 0 && !later.empty(); count--) {
        const size_t k = order() % later.size();
        const std::function<void()> work = std::move(later[k]);
        later[k] = std::move(later.back());
        later.pop_back();
        work();
    }
}

void run_cluster(std::vector<std::unique_ptr<struct fiber>> &fibers)
{
    const size_t warps = (fibers.size() + 31) / 32;
    std::vector<size_t> turn(warps);
    std::vector<unsigned> slowness(warps, 1);
    size_t live = fibers.size();
    for (size_t w = 0; w < warps; w++)
        turn[w] = w;
    for (long round = 0; live > 0 || !later.empty(); round++) {
        if (round == kMostRounds)
            emulated_failure("deadlock; threads that wait:", (long)live);
        if (round % 50 == 0)
            for (unsigned &s : slowness) {
                const unsigned r = order() % 20;
                s = r == 0 ? 60 : r < 4 ? 6 : r < 10 ? 2 : 1;
            }
        std::shuffle(turn.begin(), turn.end(), order);
        for (const size_t w : turn) {
            if (slowness[w] > 1 && order() % slowness[w] != 0)
                continue;
            const size_t first = order() % 32;
            for (size_t l = 0; l < 32; l++) {
                const size_t at = w * 32 + (l ^ first);
                if (at < fibers.size() && fibers[at]->live) {
                    resume(*fibers[at]);
                    live -= !fibers[at]->live;
                    fibers[at]->block->live -= !fibers[at]->live;
                }
            }
            do_some();
        }
    }
}

} /* namespace */

const struct emulated_place &emulated_here(void)
{
    return current->place;
}

void emulated_yield(void)
{
    if (_setjmp(current->context) == 0)
        _longjmp(scheduler, 1);
}

bool emulated_chance(void)
{
    return order() % 2;
}

void emulated_failure(const char *what, long a, long b)
{
    printf("emulator: %s %ld %ld", what, a, b);
    if (current)
        printf(" (block %d, thread %d)", current->place.block, current->place.thread);
    printf("\n");
    for (const auto &[address, state] : barriers)
        printf(
            "  barrier at %u of block %u: %d of %d arrivals and %lld bytes missing, %llu phases\n",
            address & 0xfffff, address >> 20, state.left, state.count, (long long)state.bytes,
            (unsigned long long)state.phase);
    fflush(stdout);
    _exit(3);
}

void emulated_later(std::function<void()> work)
{
    later.push_back(std::move(work));
}

uint8_t *emulated_shared(uint32_t address, uint32_t bytes)
{
    const uint32_t rank = address >> 20, offset = address & 0xfffff;
    if (rank >= blocks.size() || offset + bytes > shared_bytes)
        emulated_failure("no such shared address: block, offset", rank, offset);
    if (blocks[rank]->live == 0)
        emulated_failure("a block that has ended is reached: block, offset", rank, offset);
    return blocks[rank]->shared + offset;
}

uint8_t *emulated_block_shared(void)
{
    return current->block->shared;
}

uint32_t emulated_shared_address(const void *pointer)
{
    const ptrdiff_t offset = (const uint8_t *)pointer - current->block->shared;
    if (offset < 0 || offset >= (ptrdiff_t)shared_bytes)
        emulated_failure("not a pointer to the block's shared memory, offset", offset);
    return (uint32_t)current->block->rank << 20 | (uint32_t)offset;
}

const uint64_t *emulated_exchange(uint64_t value)
{
    struct warp &w = current->block->warps[(size_t)current->place.thread / 32];
    const uint64_t number = w.meeting.number;
    w.values[number & 1][current->place.thread & 31] = value;
    meet(w.meeting, 32);
    return w.values[number & 1];
}

bool emulated_barrier(int number, int threads, bool mine)
{
    struct block::named &b = current->block->barriers[number];
    const uint64_t meeting = b.meeting.number;
    if (b.meeting.here == 0)
        b.any[meeting & 1] = false;
    b.any[meeting & 1] |= mine;
    meet(b.meeting, threads);
    return b.any[meeting & 1];
}

void emulated_cluster_barrier(void)
{
    meet(cluster_meeting, current->place.threads * (int)blocks.size());
}

void emulated_seed(unsigned seed)
{
    order.seed(seed);
}

void emulated_run(const struct emulated_launch &launch, const std::function<void()> &kernel)
{
    static std::vector<std::unique_ptr<char[]>> stacks;
    entry = &kernel;
    shared_bytes = launch.shared_bytes;
    for (int at = 0; at < launch.blocks * launch.blocks_y; at += launch.cluster) {
        const int first = at % launch.blocks, block_y = at / launch.blocks;
        std::vector<std::unique_ptr<struct fiber>> fibers;
        for (int rank = 0; rank < launch.cluster; rank++) {
            blocks.push_back(std::make_unique<struct block>());
            struct block &b = *blocks.back();
            b.rank = rank;
            b.live = launch.threads;
            b.shared = (uint8_t *)aligned_alloc(1024, (shared_bytes / 1024 + 1) * 1024);
            memset(b.shared, 0xff, shared_bytes);
            b.warps.resize((size_t)(launch.threads + 31) / 32);
            b.groups.resize((size_t)(launch.threads + 127) / 128);
            for (int thread = 0; thread < launch.threads; thread++) {
                if (stacks.size() == fibers.size())
                    stacks.emplace_back(new char[kStackBytes]);
                auto f = std::make_unique<struct fiber>();
                f->place = {thread,        launch.threads,  first + rank, block_y,
                            launch.blocks, launch.blocks_y, rank};
                f->block = &b;
                f->stack = stacks[fibers.size()].get();
                fibers.push_back(std::move(f));
            }
        }
        run_cluster(fibers);
        for (const auto &b : blocks)
            free(b->shared);
        blocks.clear();
        barriers.clear();
        current = nullptr;
    }
}

/* ---- gpu/wgmma.cuh ----------------------------------------------------------------------------
 */

void barrier_init(uint32_t address, uint32_t arrivals)
{
    emulated_shared(address, 8);
    barriers[address] = {(int)arrivals, (int)arrivals, 0, 0};
}

void barrier_expect(uint32_t address, uint32_t bytes)
{
    struct barrier &b = barrier_at(address);
    b.bytes += bytes;
    if (--b.left < 0)
        emulated_failure("more arrivals than counted at barrier", address & 0xfffff);
    barrier_settle(b);
}

void emulated_complete(uint32_t address, uint32_t bytes)
{
    struct barrier &b = barrier_at(address);
    b.bytes -= bytes;
    barrier_settle(b);
}

bool barrier_test(uint32_t address, uint32_t parity)
{
    return emulated_chance() && (barrier_at(address).phase & 1) != parity;
}

void barrier_wait(uint32_t address, uint32_t parity)
{
    while ((barrier_at(address).phase & 1) == parity)
        emulated_yield();
}

void emulated_product(float *d, int columns, uint64_t a, uint64_t b, bool start)
{
    struct warpgroup &g = current->block->groups[(size_t)current->place.thread / 128];
    const int thread = current->place.thread % 128;
    const size_t number = g.given[thread]++ - g.run;
    g.d[thread] = d;
    g.columns = columns;
    if (number == g.products.size())
        g.products.push_back({a, b, start});
    else if (g.products[number].a != a || g.products[number].b != b ||
             g.products[number].start != start)
        emulated_failure("threads of a warpgroup gave different operands to product", (long)number);
}

void emulated_products_commit(void)
{
    struct warpgroup &g = current->block->groups[(size_t)current->place.thread / 128];
    const int thread = current->place.thread % 128;
    const size_t number = g.committed[thread]++;
    if (number == g.ends.size())
        g.ends.push_back(g.given[thread]);
    else if (g.ends[number] != g.given[thread])
        emulated_failure("threads of a warpgroup gave different numbers of products to group",
                         (long)number);
}

void emulated_products_wait(int pending)
{
    struct block &b = *current->block;
    struct warpgroup &g = b.groups[(size_t)current->place.thread / 128];
    if (g.meeting.here == 127)
        products_run(b, g, (size_t)pending);
    meet(g.meeting, 128);
}

void bulk_load(uint32_t destination, const void *source, uint32_t bytes, uint32_t barrier)
{
    if ((destination | (uintptr_t)source | bytes) & 15)
        emulated_failure("a copy to shared memory is not aligned");
    emulated_later([=] {
        memcpy(emulated_shared(destination, bytes), source, bytes);
        emulated_complete(barrier, bytes);
    });
}

void bulk_store(void *destination, uint32_t source, uint32_t bytes)
{
    if ((source | (uintptr_t)destination | bytes) & 15)
        emulated_failure("a copy from shared memory is not aligned");
    const std::shared_ptr<int> unfinished = current->copies;
    ++*unfinished;
    emulated_later([=] {
        memcpy(destination, emulated_shared(source, bytes), bytes);
        --*unfinished;
    });
}

void bulk_store_commit(void)
{
    current->groups.push_back(current->copies);
    current->copies = std::make_shared<int>(0);
}

void emulated_bulk_store_wait(int pending)
{
    std::vector<std::shared_ptr<int>> &groups = current->groups;
    for (; (int)groups.size() > pending; groups.erase(groups.begin()))
        while (*groups.front())
            emulated_yield();
}

/* ---- gpu/async_copy.cuh ----------------------------------------------------------------------
 */

static std::function<void()> small_copy(uint32_t destination, const void *source, uint32_t bytes,
                                        uint32_t size)
{
    const std::shared_ptr<int> unfinished = current->small_copies;
    ++*unfinished;
    return [=] {
        uint8_t *const to = emulated_shared(destination, size);
        memset(to, 0, size);
        memcpy(to, source, bytes);
        --*unfinished;
    };
}

/* Half of them come when they are waited for, however late that is. */
void copy_4(uint32_t destination, const void *source, uint32_t bytes)
{
    if (emulated_chance())
        current->held.push_back(small_copy(destination, source, bytes, 4));
    else
        emulated_later(small_copy(destination, source, bytes, 4));
}

void copy_16(uint32_t destination, const void *source, uint32_t bytes)
{
    if ((destination | (bytes ? (uintptr_t)source : 0)) & 15)
        emulated_failure("a copy of 16 bytes is not aligned");
    emulated_later(small_copy(destination, source, bytes, 16));
}

/* Once those copies are done, and then at a random time. */
static void arrive_behind(const std::shared_ptr<int> &unfinished, uint32_t barrier)
{
    emulated_later([=] {
        if (*unfinished == 0)
            barrier_expect(barrier, 0);
        else
            arrive_behind(unfinished, barrier);
    });
}

void copy_arrive(uint32_t barrier)
{
    arrive_behind(current->small_copies, barrier);
    /* later copies don't hold it up, but earlier ones hold up later arrivals: */
    const std::shared_ptr<int> before = current->small_copies;
    current->small_copies = std::make_shared<int>(1);
    const std::shared_ptr<int> after = current->small_copies;
    std::function<void()> *const wait = new std::function<void()>;
    *wait = [=] {
        if (*before == 0) {
            --*after;
            delete wait;
        } else {
            emulated_later([=] { (*wait)(); });
        }
    };
    emulated_later([=] { (*wait)(); });
}

void copy_wait_all(void)
{
    for (auto &copy : current->held)
        emulated_later(std::move(copy));
    current->held.clear();
    while (*current->small_copies > 0)
        emulated_yield();
}

int emulated_multiprocessors;

/* ---- memory ------------------------------------------------------------------------------------
 */

namespace
{
std::map<void *, std::pair<char *, size_t>> allocations;
}

cudaError_t emulated_malloc(void **pointer, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t used = std::max((bytes + 255) / 256 * 256, (size_t)256);
    const size_t length = (used + page - 1) / page * page;
    char *const base = (char *)mmap(NULL, length + page, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + length, page, PROT_NONE) != 0)
        return cudaErrorMemoryAllocation;
    memset(base, 0xff, length);
    *pointer = base + length - used;
    allocations[*pointer] = {base, length + page};
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer)
{
    const auto at = allocations.find(pointer);
    if (at != allocations.end()) {
        munmap(at->second.first, at->second.second);
        allocations.erase(at);
    }
    return cudaSuccess;
}
