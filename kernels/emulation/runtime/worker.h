// worker.h - a host thread that runs blocks, and what it knows of the block it runs.
#pragma once
#include <mutex>
#include <string>
#include <vector>
#include "buffers.h"
#include "context.h"
#include "emulation/collectives.h"
#include "emulation/launch.h"
#include "emulation/memory.h"
#include "faults.h"
#include "options.h"

namespace emulation {
constexpr unsigned max_threads = 1024, max_warps = 32, max_barriers = 16;
constexpr size_t shared_capacity = 227 * 1024;
constexpr size_t guard_page = 65536;  // at least a page on every host
constexpr size_t stack_bytes = 64 * 1024, stack_stride = stack_bytes + guard_page;

// A cp.async on its way.
struct Copy {
    char* to;
    const char* from;
    unsigned bytes, valid, group;
    Site site;
};

enum class State : uint8_t { ready, at_barrier, in_collective, done };

// A thread of the block.
struct Fiber {
    Context context;
    uint3 thread;
    unsigned id;
    State state;
    Site site;       // of the barrier or collective it waits at
    const void* pc;  // the same
    unsigned barrier_id;
    const char* name;
    Combine combine;
    bool aligned;
    unsigned mask, in[max_in], out[max_out];
    int vote_result;
    std::vector<Copy> copies;
    unsigned groups;       // cp.async groups committed so far
    uintptr_t matrix_row;  // address it gave to the last ldmatrix

    Place place() const { return {&site, pc}; }
};

struct Barrier {
    unsigned arrived = 0, expected = 0;
    int sum = 0;
    Site site{};
    const void* pc = nullptr;
};

// Who touched a granule of shared memory last. Clocks grow at barriers and go on from block to block, so that nothing
// need be cleared between blocks.
struct Cell {
    uint32_t write_clock = 0, read_clock[2] = {0, 0};
    uint16_t writer = 0, reader[2] = {0, 0};
    bool atomic = false, copying = false;
};

struct Shared {
    const char* name;
    uintptr_t low = 0, high = 0;
    std::vector<Cell> cells{};
    bool holds(uintptr_t a) const { return a - low < high - low; }
};

// What all blocks of a launch share.
struct Grid {
    const Launch* launch;
    Options options;
    std::shared_ptr<const Buffers> buffers;
    uint64_t serial;
    bool parallel;  // blocks run on several host threads
    std::atomic<size_t> next{0};
    std::atomic<bool> stop{false};
    std::mutex lock{};
    std::string text{}, kind{};
    Counters counted{};
};

struct Worker {
    Worker();
    void run_block(Grid& g, size_t linear);
    void push(Fiber& f) { f.state = State::ready, queue[(queue_head + queue_size++) % max_threads] = &f; }
    Fiber* pop();
    void give_way(Fiber& self);
    void explain_stall();
    void enter_barrier(unsigned id, unsigned count, int predicate, const Place& place);
    void finish_barrier(unsigned id);
    void enter_collective(const char* name, Combine combine, bool aligned, unsigned mask, const unsigned* in, int in_words,
                          unsigned* out, int out_words, const Place& place);
    void try_collective(Fiber& f);
    void tick(uint32_t warps);
    void access(uintptr_t a, size_t n, Access kind, size_t alignment, const Place& place);
    void access_global(uintptr_t a, size_t n, Access kind, const Place& place);
    void access_shared(Shared& s, uintptr_t a, size_t n, Access kind, const Place& place, bool copying = false);
    void access_cell(Shared& s, size_t cell, Access kind, const Place& place, bool copying);
    Shared* shared(const void* p);  // null when p points elsewhere
    uint64_t random() { return rng = rng * 6364136223846793005u + 1442695040888963407u, rng >> 33; }
    template <class F> void in_order(unsigned count, F visit) {
        bool reverse = grid->options.order == Order::reverse;
        for (unsigned i = 0; i < count; ++i) visit(reverse ? count - 1 - i : i);
    }

    Context main;
    Fiber* current = nullptr;
    bool trusted = false;  // a combine function runs: instrumented like kernels, but it reads the emulator's own memory
    char* stacks;
    char* arena;  // dynamic shared memory
    Shared dynamic_memory{"dynamic"}, static_memory{"static"};
    uintptr_t module_low = 0, module_high = 0;  // the program or library that holds the kernels
    std::vector<Fiber> fibers;
    Fiber* queue[max_threads];
    unsigned queue_head = 0, queue_size = 0, threads = 0, done = 0;
    Barrier barriers[max_barriers];
    uint32_t lanes_waiting[max_warps], lanes_done[max_warps];  // per warp: in a collective, at the end of the kernel
    uint32_t clock[max_warps][max_warps];  // clock[w][u]: what warp w knows of warp u; see access_cell
    uint32_t base = 1;                     // clocks below are from earlier blocks
    uint3 block{};
    dim3 block_dim, grid_dim;
    Grid* grid = nullptr;
    const Buffer* recent = nullptr;
    uint64_t rng = 1, owner = 0;
    Counters counted;
};

// This host thread's worker; null on a thread that has run no block.
extern __thread Worker* worker;
// The same, made when there is none.
Worker& this_worker();
}  // namespace emulation
