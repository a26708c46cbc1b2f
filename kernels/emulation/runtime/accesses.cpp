// accesses.cpp - the checks of every load and store, and the compiler's hooks that bring them here.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "worker.h"

namespace emulation {
// An earlier access by warp u at its clock c is ordered before warp w now when c < clock[w][u]: u has passed a
// barrier since, and w has heard of it. Within a warp the same rule asks for a __syncwarp or barrier in between.
void Worker::access_cell(Shared& s, size_t cell, Access kind, const Place& place, bool copying) {
    Cell& c = s.cells[cell];
    unsigned t = current->id, w = t / 32;
    const uint32_t* known = clock[w];
    bool written = c.write_clock >= base;
    auto unordered = [&](uint16_t other, uint32_t at) { return at >= base && other != t && at >= known[other / 32]; };
    auto name = [&] { return print("shared address %s+%zu, ", s.name, cell * granule); };
    if (written && c.copying)
        raise("copy in flight", name() + print("touched before the cp.async of thread %u was waited for, at ", c.writer) + text(place));
    if (kind == Access::read && !written) raise("uninitialised shared memory", name() + "read at " + text(place));
    if (written && !(kind == Access::atomic && c.atomic) && unordered(c.writer, c.write_clock))
        raise("shared memory race", name() + print("%s here and written by thread %u with no barrier between, at ",
                                                   kind == Access::read ? "read" : "written", c.writer) + text(place));
    if (kind == Access::read) {
        if (c.reader[0] != t) c.reader[1] = c.reader[0], c.read_clock[1] = c.read_clock[0], c.reader[0] = uint16_t(t);
        c.read_clock[0] = known[w];
        return;
    }
    for (int i = 0; i < 2; ++i)
        if (unordered(c.reader[i], c.read_clock[i]))
            raise("shared memory race", name() + print("written here and read by thread %u with no barrier between, at ", c.reader[i]) + text(place));
    c.writer = uint16_t(t), c.write_clock = known[w], c.atomic = kind == Access::atomic, c.copying = copying;
}

void Worker::access_shared(Shared& s, uintptr_t a, size_t n, Access kind, const Place& place, bool copying) {
    size_t first = (a - s.low) / granule, last = (a + n - 1 - s.low) / granule;
    // A neighbour may own the other byte of a granule: note that something was written there, and no more.
    if (n == 1 && s.cells[first].write_clock >= base) return;
    for (size_t i = first; i <= last; ++i) access_cell(s, i, kind, place, copying);
}

void Worker::access_global(uintptr_t a, size_t n, Access kind, const Place& place) {
    if (!recent || a < recent->low || a + n > recent->high) {
        const Buffer* found = holder(*grid->buffers, a, n);
        if (!found) {
            uintptr_t held = reinterpret_cast<uintptr_t>(grid->launch->arguments);
            bool argument = a >= held && a + n <= held + grid->launch->argument_bytes;
            bool constant = a >= module_low && a + n <= module_high;  // constants and __constant__ data
            if (kind == Access::read && (argument || constant)) return;
            const char* what = kind == Access::read ? "read" : "write";
            const Buffers& all = *grid->buffers;
            auto after = std::upper_bound(all.begin(), all.end(), a, [](uintptr_t x, const Buffer& b) { return x < b.low; });
            if (after == all.begin()) raise("out of bounds", print("%s of %zu bytes before every buffer, at ", what, n) + text(place));
            const Buffer& b = *(after - 1);
            raise("out of bounds", print("%s of %zu bytes, %zu past the start of a buffer of %zu, at ", what, n, size_t(a - b.low),
                                         size_t(b.high - b.low)) + text(place));
        }
        recent = found;
    }
    if (!grid->options.blocks_disjoint) return;
    for (size_t i = (a - recent->low) / granule; i <= (a + n - 1 - recent->low) / granule; ++i) {
        auto& cell = recent->owners[i];
        uint64_t last = cell.load(std::memory_order_relaxed);
        if (last == owner) continue;
        // Only blocks on other host threads can come between the load and a store; an exchange costs too much for all.
        if (kind == Access::write && grid->parallel) last = cell.exchange(owner, std::memory_order_relaxed);
        else if (kind == Access::write) cell.store(owner, std::memory_order_relaxed);
        if (kind != Access::atomic && last >> 32 == grid->serial)
            raise("blocks overlap", print("global memory %s here was written by block %u of this launch, at ",
                                          kind == Access::read ? "read" : "written", unsigned(last) - 1) + text(place));
    }
}

void Worker::access(uintptr_t a, size_t n, Access kind, size_t alignment, const Place& place) {
    if (a - reinterpret_cast<uintptr_t>(stacks) < stack_stride * max_threads || trusted) return;  // locals
    if (a % alignment)
        raise("misaligned access", print("%zu bytes at an address that is %zu past a multiple of %zu, at ", n, size_t(a % alignment), alignment) + text(place));
    if (dynamic_memory.holds(a)) {
        size_t end = a + n - dynamic_memory.low;
        if (end > grid->launch->shared_bytes)
            raise("out of bounds", print("byte %zu of %zu of dynamic shared memory, at ", end, grid->launch->shared_bytes) + text(place));
        return access_shared(dynamic_memory, a, n, kind, place);
    }
    if (static_memory.holds(a)) return access_shared(static_memory, a, n, kind, place);
    access_global(a, n, kind, place);
}

void check(const void* address, size_t bytes, Access access, size_t alignment, Site site) {
    worker->access(reinterpret_cast<uintptr_t>(address), bytes, access, alignment, {&site, __builtin_return_address(0)});
}

uint64_t load_word(const void* p, size_t bytes) {
    return bytes == 4 ? __atomic_load_n(static_cast<const uint32_t*>(p), __ATOMIC_RELAXED)
                      : __atomic_load_n(static_cast<const uint64_t*>(p), __ATOMIC_RELAXED);
}
bool swap_word(void* p, size_t bytes, uint64_t& seen, uint64_t wanted) {
    if (bytes == 8) return __atomic_compare_exchange_n(static_cast<uint64_t*>(p), &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    uint32_t low = uint32_t(seen);
    bool done = __atomic_compare_exchange_n(static_cast<uint32_t*>(p), &low, uint32_t(wanted), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    seen = low;
    return done;
}
}  // namespace emulation

// What -fsanitize=thread calls at each load and store of instrumented code: a documented interface, the same in GCC and
// Clang. Launchers are instrumented too; outside kernels the hooks return at once.
using emulation::Access;
static inline void hook(const void* p, size_t n, Access kind, size_t alignment, const void* pc) {
    emulation::Worker* w = emulation::worker;
    if (n && w && w->current) w->access(reinterpret_cast<uintptr_t>(p), n, kind, alignment, {nullptr, pc});
}
#define EMULATION_HOOK(n)                                                                                                       \
    extern "C" void __tsan_read##n(void* p) { hook(p, n, Access::read, n, __builtin_return_address(0)); }                       \
    extern "C" void __tsan_write##n(void* p) { hook(p, n, Access::write, n, __builtin_return_address(0)); }                     \
    extern "C" void __tsan_unaligned_read##n(void* p) { hook(p, n, Access::read, 1, __builtin_return_address(0)); }             \
    extern "C" void __tsan_unaligned_write##n(void* p) { hook(p, n, Access::write, 1, __builtin_return_address(0)); }
EMULATION_HOOK(1)
EMULATION_HOOK(2)
EMULATION_HOOK(4)
EMULATION_HOOK(8)
EMULATION_HOOK(16)
extern "C" void __tsan_read_range(void* p, size_t n) { hook(p, n, Access::read, 1, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void* p, size_t n) { hook(p, n, Access::write, 1, __builtin_return_address(0)); }
extern "C" void* __tsan_memcpy(void* to, const void* from, size_t n) {
    hook(from, n, Access::read, 1, __builtin_return_address(0)), hook(to, n, Access::write, 1, __builtin_return_address(0));
    return std::memcpy(to, from, n);
}
extern "C" void* __tsan_memmove(void* to, const void* from, size_t n) {
    hook(from, n, Access::read, 1, __builtin_return_address(0)), hook(to, n, Access::write, 1, __builtin_return_address(0));
    return std::memmove(to, from, n);
}
extern "C" void* __tsan_memset(void* p, int value, size_t n) {
    hook(p, n, Access::write, 1, __builtin_return_address(0));
    return std::memset(p, value, n);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_read(void**) {}
extern "C" void __tsan_vptr_update(void**, void*) {}

// What -fsanitize=bounds and -fsanitize=alignment call. `data` begins with the source location. Outside kernels it is the
// end.
[[noreturn]] static void undefined(const char* kind, void* data, const void* pc, const std::string& what) {
    struct { const char* file; uint32_t line, column; } at;
    std::memcpy(&at, data, sizeof at);
    emulation::Site site{at.file, int(at.line)};
    std::string text = what + emulation::text({&site, pc});
    if (emulation::worker && emulation::worker->current) emulation::raise(kind, text);
    std::fprintf(stderr, "%s: %s\n", kind, text.c_str());
    std::abort();
}
// An index past the end of an array of known length: an overrun from one static __shared__ array into the next.
extern "C" void __ubsan_handle_out_of_bounds(void* data, uintptr_t index) {
    undefined("out of bounds", data, __builtin_return_address(0),
              emulation::print("index %zu of an array of known length, at ", size_t(index)));
}
// A vector read or written off its alignment. The optimiser splits vectors into words that are aligned by themselves, so
// the hooks above do not see it.
extern "C" void __ubsan_handle_type_mismatch_v1(void* data, uintptr_t address) {
    unsigned char log_alignment;
    std::memcpy(&log_alignment, static_cast<char*>(data) + 24, 1);
    size_t alignment = size_t(1) << log_alignment;
    undefined("misaligned access", data, __builtin_return_address(0),
              emulation::print("an address that is %zu past a multiple of %zu, at ", size_t(address % alignment), alignment));
}
