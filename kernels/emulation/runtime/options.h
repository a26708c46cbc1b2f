// options.h - how launches of a host thread run, and what they count.
#pragma once
#include <cstdint>

namespace emulation {
enum class Order : uint32_t { forward, reverse, random };
struct Options {
    Order order = Order::forward;  // of lanes and of blocks
    uint64_t seed = 1;             // for Order::random
    uint32_t host_threads = 1;     // blocks run at once
    bool blocks_disjoint = true;   // fault when a block touches what another block of the same launch wrote
};
struct Counters {
    uint64_t switches = 0;         // between fibers
    uint64_t matrices = 0;         // 8x8 matrices read by ldmatrix
    uint64_t matrix_passes = 0;    // passes over the banks that took
};
// Of the calling host thread.
Options& options();
Counters& counters();
}  // namespace emulation
