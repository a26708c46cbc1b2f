// scheduler.cpp - runs the fibers of a block and brings them together at barriers.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include "worker.h"

namespace emulation {
Fiber* Worker::pop() {
    if (!queue_size) return nullptr;
    if (grid->options.order == Order::random) std::swap(queue[queue_head], queue[(queue_head + random() % queue_size) % max_threads]);
    Fiber* f = queue[queue_head];
    queue_head = (queue_head + 1) % max_threads;
    --queue_size;
    return f;
}

void Worker::give_way(Fiber& self) {
    Fiber* next = pop();
    if (next == &self) return;
    current = next;
    ++counted.switches;
    swap(self.context, next ? next->context : main);
}

static void fiber_entry() {
    Worker& w = *worker;
    Fiber& f = *w.current;
    w.grid->launch->call(w.grid->launch->arguments);
    if (!f.copies.empty()) raise("unfinished copy", "the thread ends and never waited for its cp.async at " + text({&f.copies[0].site, nullptr}));
    f.state = State::done;
    w.lanes_done[f.id / 32] |= 1u << f.id % 32;
    ++w.done;
    // Lanes that wait for this one in a non-aligned collective need wait no longer.
    for (unsigned i = f.id / 32 * 32; i < std::min(w.threads, f.id / 32 * 32 + 32); ++i)
        if (w.fibers[i].state == State::in_collective) w.try_collective(w.fibers[i]);
    w.give_way(f);
    std::abort();
}

void Worker::run_block(Grid& g, size_t linear) {
    grid = &g;
    grid_dim = g.launch->grid, block_dim = g.launch->block;
    block = {unsigned(linear % grid_dim.x), unsigned(linear / grid_dim.x % grid_dim.y), unsigned(linear / grid_dim.x / grid_dim.y)};
    threads = block_dim.x * block_dim.y * block_dim.z;
    owner = g.serial << 32 | (linear + 1);
    recent = nullptr;
    rng = (g.options.seed + 1) * 0x9E3779B97F4A7C15u ^ linear * 0xD1B54A32D192ED03u;
    done = queue_head = queue_size = 0;
    for (Barrier& b : barriers) b = {};
    for (unsigned i = 0; i < max_warps; ++i) {  // lanes that a block does not have count as ended
        lanes_waiting[i] = 0;
        lanes_done[i] = 32 * i >= threads ? ~0u : threads - 32 * i >= 32 ? 0 : ~0u << (threads - 32 * i);
    }
    if (base > UINT32_MAX / 2) {  // long before the clocks of one block could pass the end
        base = 1;
        for (Shared* s : {&dynamic_memory, &static_memory}) std::fill(s->cells.begin(), s->cells.end(), Cell{});
    }
    for (auto& row : clock) std::fill(std::begin(row), std::end(row), base);
    std::memset(arena, 0xFF, g.launch->shared_bytes);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& f = fibers[i];
        // Stack tops are staggered, else every fiber's hot lines would share a few cache sets.
        prepare(f.context, stacks + i * stack_stride + guard_page, stack_bytes - i % 16 * 320, fiber_entry);
        f.id = i, f.copies.clear(), f.groups = 0;
        f.thread = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
    }
    in_order(threads, [&](unsigned i) { push(fibers[i]); });
    current = pop();
    swap(main, current->context);
    if (!g.stop && done < threads) explain_stall();
    current = nullptr;
    for (auto& row : clock) base = std::max(base, 1 + *std::max_element(std::begin(row), std::end(row)));
}

// Nobody can run and not everybody is done: say who waits where. Runs on the host thread's own stack, after the block.
void Worker::explain_stall() {
    std::map<std::string, unsigned> waiting;
    const char* kind = "divergent barrier";
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& f = fibers[i];
        if (f.state == State::done) continue;
        if (f.state == State::in_collective) kind = "incomplete warp";
        std::string what = f.state == State::at_barrier ? print("barrier %u", f.barrier_id) : print("%s with mask %08x", f.name, f.mask);
        ++waiting[what + " at " + text(f.place())];
    }
    std::string all = print("%s in kernel %s, block (%u,%u,%u): %u threads have ended", kind, kernel_name(*grid->launch).c_str(), block.x, block.y, block.z, done);
    for (auto& [what, count] : waiting) all += print("; %u wait at ", count) + what;
    std::lock_guard<std::mutex> hold(grid->lock);
    if (grid->text.empty()) grid->kind = kind, grid->text = all;
    grid->stop = true;
}

// The warps named now know everything each of them did: raise the own clocks, then take the maximum.
void Worker::tick(uint32_t warps) {
    uint32_t joined[max_warps] = {};
    for (unsigned w = 0; w < max_warps; ++w)
        if (warps >> w & 1) {
            ++clock[w][w];
            for (unsigned u = 0; u < max_warps; ++u) joined[u] = std::max(joined[u], clock[w][u]);
        }
    for (unsigned w = 0; w < max_warps; ++w)
        if (warps >> w & 1) std::memcpy(clock[w], joined, sizeof joined);
}

void Worker::finish_barrier(unsigned id) {
    uint32_t warps = 0;
    int sum = barriers[id].sum;
    barriers[id] = {};
    for (unsigned i = 0; i < threads; ++i)
        if (fibers[i].state == State::at_barrier && fibers[i].barrier_id == id) warps |= 1u << i / 32;
    tick(warps);
    in_order(threads, [&](unsigned i) {
        Fiber& f = fibers[i];
        if (f.state == State::at_barrier && f.barrier_id == id) f.vote_result = sum, push(f);
    });
}

void Worker::enter_barrier(unsigned id, unsigned count, int predicate, const Place& place) {
    Fiber& f = *current;
    Barrier& b = barriers[id % max_barriers];
    bool whole = count == 0;
    if (whole) count = threads;
    if (id >= max_barriers || (!whole && (count % 32 || count > threads)))
        raise("bad barrier", print("barrier %u of %u threads at ", id, count) + text(place));
    bool elsewhere = b.arrived && (place.site->line != b.site.line || std::strcmp(place.site->file, b.site.file));
    if (b.arrived && (b.expected != count || (whole && elsewhere)))
        raise("divergent barrier", "this thread stands at " + text(place) + print(", %u others at ", b.arrived) + text({&b.site, b.pc}));
    b.site = *place.site, b.pc = place.pc, b.expected = count, b.sum += predicate != 0;
    f.state = State::at_barrier, f.barrier_id = id, f.site = *place.site, f.pc = place.pc;
    if (++b.arrived == count) finish_barrier(id);
    give_way(f);
}

void barrier(unsigned id, unsigned count, Site site) { worker->enter_barrier(id, count, 0, {&site, __builtin_return_address(0)}); }

int barrier_vote(Vote vote, int predicate, Site site) {
    Worker& w = *worker;
    w.enter_barrier(0, 0, predicate, {&site, __builtin_return_address(0)});
    int sum = w.current->vote_result;
    return vote == Vote::count ? sum : vote == Vote::any ? sum > 0 : sum == int(w.threads);
}

uint3 thread_index() { return worker->current->thread; }
uint3 block_index() { return worker->block; }
dim3 block_size() { return worker->block_dim; }
dim3 grid_size() { return worker->grid_dim; }
void* dynamic_shared() { return worker->arena; }
}  // namespace emulation
