// launch.cpp - a launch: refused when a device would refuse it, else its blocks in the order of the options.
#include <algorithm>
#include <map>
#include <thread>
#include "worker.h"

namespace emulation {
namespace {
constexpr size_t without_opt_in = 48 * 1024;
std::atomic<uint64_t> launches{0};

// Dynamic shared memory that cudaFuncSetAttribute has allowed.
struct Limits {
    std::mutex lock;
    std::map<const void*, size_t> of_kernel;
};
Limits& limits() {
    static Limits& made = *new Limits;
    return made;
}

size_t limit_of(const void* kernel) {
    std::lock_guard<std::mutex> hold(limits().lock);
    auto set = limits().of_kernel.find(kernel);
    return set == limits().of_kernel.end() ? without_opt_in : set->second;
}

const char* refusal(const Launch& launch) {
    dim3 g = launch.grid, b = launch.block;
    if (!b.x || !b.y || !b.z || uint64_t(b.x) * b.y * b.z > max_threads || b.x > 1024 || b.y > 1024 || b.z > 64) return "block size";
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) return "grid size";
    if (launch.shared_bytes > limit_of(launch.kernel)) return "more dynamic shared memory than cudaFuncSetAttribute allowed (48 KiB without it)";
    return nullptr;
}

// Blocks in the order they start. A forward order needs no list.
struct BlockOrder {
    BlockOrder(const Options& options, size_t blocks) : reverse(options.order == Order::reverse), blocks(blocks) {
        if (options.order != Order::random) return;
        shuffled.resize(blocks);
        for (size_t i = 0; i < blocks; ++i) shuffled[i] = uint32_t(i);
        uint64_t rng = options.seed;
        for (size_t i = blocks; i > 1; --i) rng = rng * 6364136223846793005u + 1442695040888963407u, std::swap(shuffled[i - 1], shuffled[(rng >> 33) % i]);
    }
    size_t operator[](size_t i) const { return reverse ? blocks - 1 - i : shuffled.empty() ? i : shuffled[i]; }
    bool reverse;
    size_t blocks;
    std::vector<uint32_t> shuffled{};
};
}  // namespace

Options& options() {
    thread_local Options mine;
    return mine;
}
Counters& counters() {
    thread_local Counters mine;
    return mine;
}

cudaError_t set_shared_limit(const void* kernel, int bytes) {
    if (bytes < 0 || size_t(bytes) > shared_capacity) return faults().pending = cudaErrorInvalidValue;
    std::lock_guard<std::mutex> hold(limits().lock);
    limits().of_kernel[kernel] = size_t(bytes);
    return cudaSuccess;
}

void run(const Launch& launch) {
    if (const char* why = refusal(launch))
        return report(cudaErrorInvalidConfiguration, "bad launch",
                      print("bad launch of %s: %s, at ", kernel_name(launch).c_str(), why) + text({&launch.site, nullptr}));
    size_t blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    size_t host_threads = std::clamp<size_t>(options().host_threads, 1, blocks);
    Grid grid{&launch, options(), buffers(), ++launches & 0xffffffffu, host_threads > 1};
    BlockOrder order(grid.options, blocks);
    auto work = [&] {
        Worker& w = this_worker();
        while (!grid.stop) {
            size_t i = grid.next++;
            if (i >= blocks) break;
            w.run_block(grid, order[i]);
        }
        std::lock_guard<std::mutex> hold(grid.lock);
        grid.counted.switches += w.counted.switches, grid.counted.matrices += w.counted.matrices;
        grid.counted.matrix_passes += w.counted.matrix_passes, w.counted = {};
    };
    std::vector<std::thread> helpers;
    for (size_t i = 1; i < host_threads; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& t : helpers) t.join();
    Counters& sum = counters();
    sum.switches += grid.counted.switches, sum.matrices += grid.counted.matrices, sum.matrix_passes += grid.counted.matrix_passes;
    if (!grid.text.empty()) report(cudaErrorLaunchFailure, grid.kind, grid.text);
}
}  // namespace emulation
