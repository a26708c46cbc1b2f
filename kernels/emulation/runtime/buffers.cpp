// buffers.cpp - see buffers.h.
#include "buffers.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

namespace emulation {
namespace {
constexpr size_t margin = 256;  // of pattern on both sides, at least
constexpr unsigned char pattern = 0xA5;

struct Allocation {
    char* mapped;
    size_t mapped_bytes, bytes;
    std::atomic<uint64_t>* owners;
};

// Never destroyed: a thread may still free buffers while the program's statics go.
struct All {
    std::mutex lock;
    std::map<uintptr_t, Allocation> by_address;
    std::shared_ptr<const Buffers> listed;  // null after a change
};
All& all() {
    static All& made = *new All;
    return made;
}

size_t page() {
    static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
    return bytes;
}
}  // namespace

void* allocate(size_t bytes) {
    if (bytes > SIZE_MAX / 8) return nullptr;
    size_t inside = (bytes + 2 * margin + page() - 1) / page() * page(), whole = inside + 2 * page();
    void* mapped = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* first = static_cast<char*>(mapped) + page();
    // calloc leaves large tables to the kernel's zero pages until a block writes there.
    void* owners = std::calloc(bytes / granule + 1, sizeof(std::atomic<uint64_t>));
    if (!owners || mprotect(first, inside, PROT_READ | PROT_WRITE) != 0) {
        std::free(owners);
        munmap(mapped, whole);
        return nullptr;
    }
    std::memset(first, pattern, margin);
    std::memset(first + margin, 0xFF, bytes);
    std::memset(first + margin + bytes, pattern, inside - margin - bytes);
    std::lock_guard<std::mutex> hold(all().lock);
    all().by_address[reinterpret_cast<uintptr_t>(first + margin)] = {static_cast<char*>(mapped), whole, bytes,
                                                                     static_cast<std::atomic<uint64_t>*>(owners)};
    all().listed.reset();
    return first + margin;
}

Release release(void* p) {
    Allocation a;
    {
        std::lock_guard<std::mutex> hold(all().lock);
        auto found = all().by_address.find(reinterpret_cast<uintptr_t>(p));
        if (found == all().by_address.end()) return Release::unknown;
        a = found->second;
        all().by_address.erase(found);
        all().listed.reset();
    }
    auto kept = [](char c) { return static_cast<unsigned char>(c) == pattern; };
    const char* user = static_cast<const char*>(p);
    bool intact = std::all_of(user - margin, user, kept) &&
                  std::all_of(user + a.bytes, static_cast<const char*>(a.mapped + a.mapped_bytes - page()), kept);
    std::free(a.owners);
    munmap(a.mapped, a.mapped_bytes);
    return intact ? Release::done : Release::overrun;
}

std::shared_ptr<const Buffers> buffers() {
    std::lock_guard<std::mutex> hold(all().lock);
    if (!all().listed) {
        auto list = std::make_shared<Buffers>();
        for (auto& [low, a] : all().by_address) list->push_back({low, low + a.bytes, a.owners});
        all().listed = std::move(list);
    }
    return all().listed;
}

const Buffer* holder(const Buffers& all, uintptr_t a, size_t bytes) {
    auto after = std::upper_bound(all.begin(), all.end(), a, [](uintptr_t x, const Buffer& b) { return x < b.low; });
    if (after == all.begin()) return nullptr;
    const Buffer& b = *(after - 1);
    return a <= b.high && bytes <= b.high - a ? &b : nullptr;
}
}  // namespace emulation
