// copies.cpp - cp.async and the addresses of ldmatrix.
#include <algorithm>
#include <cstring>
#include "worker.h"

namespace emulation {
// Nothing is copied before the wait, so a kernel that does not wait finds old data; the cells say "in flight" meanwhile.
// At issue it counts as a write: refilling a stage that others may still read is a race.
void copy_async(void* shared, const void* global, unsigned bytes, unsigned valid_bytes, Site site) {
    Worker& w = *worker;
    Place place{&site, __builtin_return_address(0)};
    uintptr_t to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
    Shared* s = w.shared(shared);
    if (!s || w.shared(global)) raise("wrong memory space", "cp.async copies from global to shared memory, at " + text(place));
    if (to % bytes || from % bytes) raise("misaligned access", print("cp.async of %u bytes, at ", bytes) + text(place));
    if (valid_bytes) w.access(from, valid_bytes, Access::read, 1, place);
    if (s == &w.dynamic_memory && to + bytes > s->low + w.grid->launch->shared_bytes)
        raise("out of bounds", "cp.async past dynamic shared memory, at " + text(place));
    w.access_shared(*s, to, bytes, Access::write, place, true);
    w.current->copies.push_back({static_cast<char*>(shared), static_cast<const char*>(global), bytes, valid_bytes, w.current->groups, site});
}

void copy_async_commit() { ++worker->current->groups; }

void copy_async_wait(unsigned groups_left) {
    Worker& w = *worker;
    Fiber& f = *w.current;
    size_t kept = 0;
    for (const Copy& c : f.copies) {
        if (c.group + groups_left >= f.groups) {
            f.copies[kept++] = c;
            continue;
        }
        std::memcpy(c.to, c.from, c.valid);
        std::memset(c.to + c.valid, 0, c.bytes - c.valid);
        Shared& s = *w.shared(c.to);
        size_t first = (reinterpret_cast<uintptr_t>(c.to) - s.low) / granule;
        for (size_t i = first; i < first + c.bytes / granule; ++i)
            s.cells[i].copying = false, s.cells[i].writer = uint16_t(f.id), s.cells[i].write_clock = w.clock[f.id / 32][f.id / 32];
    }
    f.copies.resize(kept);
}

void read_matrix_row(const void* row, int count, unsigned (&words)[4], Site site) {
    Worker& w = *worker;
    unsigned lane = w.current->id % 32;
    std::fill(words, words + 4, 0u);
    if (int(lane) >= 8 * count) return;
    Place place{&site, __builtin_return_address(0)};
    if (!w.shared(row)) raise("wrong memory space", "ldmatrix reads shared memory only, at " + text(place));
    w.access(reinterpret_cast<uintptr_t>(row), 16, Access::read, 16, place);
    std::memcpy(words, row, 16);
    w.current->matrix_row = reinterpret_cast<uintptr_t>(row);
}

void count_matrices(int count) {
    Worker& w = *worker;
    for (int matrix = 0; matrix < count; ++matrix) {
        const Fiber* rows = &w.fibers[w.current->id / 32 * 32 + 8 * matrix];
        unsigned passes = 0;  // rows in the same 16-byte column of the 128-byte bank cycle queue up, equal addresses share
        for (int i = 0; i < 8; ++i) {
            unsigned queue = 1;
            for (int j = 0; j < i; ++j)
                queue += rows[j].matrix_row != rows[i].matrix_row && rows[j].matrix_row / 16 % 8 == rows[i].matrix_row / 16 % 8;
            passes = std::max(passes, queue);
        }
        ++w.counted.matrices, w.counted.matrix_passes += passes;
    }
}
}  // namespace emulation
