// buffers.h - the memory that kernels may touch.
//
// A buffer lies between two guard pages. The bytes between it and them hold a pattern that is checked when it is freed:
// the pattern shows small overruns by code that is not instrumented, the pages stop large ones. Instrumented kernels
// cannot overrun it by a single byte.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace emulation {
// Ownership and races are recorded per 2 bytes: the smallest number a kernel stores is a bf16.
constexpr unsigned granule = 2;

struct Buffer {
    uintptr_t low, high;
    std::atomic<uint64_t>* owners;  // per granule: (launch << 32 | block + 1) of the last plain write
};
using Buffers = std::vector<Buffer>;  // ascending

// A new buffer on 256 bytes, filled with 0xFF: NaN in every float format. Null when there is no memory.
void* allocate(size_t bytes);

enum class Release { done, unknown, overrun };
// Gives a buffer back. `overrun`: bytes around it were overwritten.
Release release(void* p);

// All buffers of now.
std::shared_ptr<const Buffers> buffers();

// The buffer that holds all of [a, a + bytes), or null.
const Buffer* holder(const Buffers& all, uintptr_t a, size_t bytes);
}  // namespace emulation
