// api.cpp - what Rust sees of the emulator: one table, the same in the test program and in the library of a mutant.
// Mirrored in src/api.rs.
#include <cstring>
#include "buffers.h"
#include "faults.h"
#include "options.h"

extern "C" const void* chtsl_launchers_emulated(void);

namespace {
struct Api {
    const void* (*launchers)();
    void* (*allocate)(size_t bytes);           // null when there is no memory
    uint32_t (*release)(void*);                // Release: 0 done, 1 no such buffer, 2 its surroundings were overwritten
    uint32_t (*fill)(void*, uint8_t, size_t);  // 0, or 1 when the range lies in no buffer
    void (*set_options)(uint32_t order, uint64_t seed, uint32_t host_threads, uint32_t blocks_disjoint);
    const char* (*fault_kind)();  // "" when there is none; valid until the next launch of this thread
    const char* (*fault_text)();
    void (*clear_fault)();
    void (*counters)(uint64_t (*counts)[3]);
};

uint32_t fill(void* p, uint8_t byte, size_t bytes) {
    if (bytes && !emulation::holder(*emulation::buffers(), reinterpret_cast<uintptr_t>(p), bytes)) return 1;
    std::memset(p, byte, bytes);
    return 0;
}
void set_options(uint32_t order, uint64_t seed, uint32_t host_threads, uint32_t blocks_disjoint) {
    emulation::options() = {emulation::Order(order), seed, host_threads, blocks_disjoint != 0};
}
void counters(uint64_t (*counts)[3]) {
    const emulation::Counters& c = emulation::counters();
    (*counts)[0] = c.switches, (*counts)[1] = c.matrices, (*counts)[2] = c.matrix_passes;
}

const Api api{
    chtsl_launchers_emulated,
    emulation::allocate,
    [](void* p) { return uint32_t(emulation::release(p)); },
    fill,
    set_options,
    [] { return emulation::faults().kind.c_str(); },
    [] { return emulation::faults().text.c_str(); },
    [] { emulation::faults() = {}; },
    counters,
};
}  // namespace

extern "C" __attribute__((visibility("default"))) const void* chtsl_emulation_api() { return &api; }
