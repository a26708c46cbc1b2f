// worker.cpp - stacks, and where a host thread keeps its `__shared__` variables.
#include "worker.h"
#include <algorithm>
#include <cstdlib>
#include <link.h>
#include <sys/mman.h>

namespace emulation {
__thread Worker* worker;

namespace {
// Marks the module whose static thread-local variables are the kernels' `__shared__` variables: the test program, or
// the library of a mutant.
__thread char tls_probe;

int find_module(dl_phdr_info* info, size_t, void* p) {
    Worker& w = *static_cast<Worker*>(p);
    uintptr_t probe = reinterpret_cast<uintptr_t>(&tls_probe), tls = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
    const auto* headers = info->dlpi_phdr;
    for (int i = 0; tls && i < info->dlpi_phnum; ++i) {
        size_t bytes = headers[i].p_memsz;
        if (headers[i].p_type != PT_TLS || probe - tls >= bytes) continue;
        // A worker that moves to another thread keeps its cells: their clocks are older than the next block.
        w.static_memory.low = tls, w.static_memory.high = tls + bytes;
        w.static_memory.cells.resize(bytes / granule + 2);
        w.module_low = UINTPTR_MAX, w.module_high = 0;
        for (int j = 0; j < info->dlpi_phnum; ++j)
            if (headers[j].p_type == PT_LOAD) {
                uintptr_t low = info->dlpi_addr + headers[j].p_vaddr;
                w.module_low = std::min(w.module_low, low);
                w.module_high = std::max<uintptr_t>(w.module_high, low + headers[j].p_memsz);
            }
        return 1;
    }
    return 0;
}

// Workers outlive the host threads that borrow them: stacks and shadow cells are made once, and never destroyed, because
// threads may end after the program's statics.
struct Idle {
    std::mutex lock;
    std::vector<Worker*> workers;
};
Idle& idle() {
    static Idle& made = *new Idle;
    return made;
}

struct Borrowed {
    Borrowed() {
        {
            std::lock_guard<std::mutex> hold(idle().lock);
            if (!idle().workers.empty()) mine = idle().workers.back(), idle().workers.pop_back();
        }
        if (!mine) mine = new Worker;
        tls_probe = 1;  // the block of a library's thread-locals exists from the first touch on
        dl_iterate_phdr(find_module, mine);
        worker = mine;
    }
    ~Borrowed() {
        worker = nullptr;
        std::lock_guard<std::mutex> hold(idle().lock);
        idle().workers.push_back(mine);
    }
    Worker* mine = nullptr;
};
}  // namespace

Worker::Worker() : fibers(max_threads) {
    void* mapped = mmap(nullptr, stack_stride * max_threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    arena = static_cast<char*>(std::aligned_alloc(1024, shared_capacity));
    if (mapped == MAP_FAILED || !arena) std::abort();
    stacks = static_cast<char*>(mapped);
    for (unsigned i = 0; i < max_threads; ++i) mprotect(stacks + i * stack_stride, guard_page, PROT_NONE);
    dynamic_memory.low = reinterpret_cast<uintptr_t>(arena), dynamic_memory.high = dynamic_memory.low + shared_capacity;
    dynamic_memory.cells.resize(shared_capacity / granule);
}

Shared* Worker::shared(const void* p) {
    uintptr_t a = reinterpret_cast<uintptr_t>(p);
    return dynamic_memory.holds(a) ? &dynamic_memory : static_memory.holds(a) ? &static_memory : nullptr;
}

Worker& this_worker() {
    thread_local Borrowed borrowed;
    return *borrowed.mine;
}
}  // namespace emulation
