// faults.h - what is reported, and to whom.
#pragma once
#include <string>
#include "emulation/cuda_runtime.h"
#include "emulation/launch.h"

namespace emulation {
// A point in a kernel. `site` is known to the wrappers, `pc` to everybody: the debug information behind it names the line,
// and the lines that inlined it.
struct Place {
    const Site* site;
    const void* pc;
};
// "spmm.cu:70", or "eight.cuh:9, inlined at spmm.cu:70".
std::string text(const Place& place);
// The kernel's own name with its template arguments, or as the launcher wrote it.
std::string kernel_name(const Launch& launch);
std::string print(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What the calling host thread's launches have met.
struct Faults {
    std::string kind, text;  // of the last faulty launch; empty if there was none
    cudaError_t pending = cudaSuccess;
};
Faults& faults();
void report(cudaError_t error, std::string kind, std::string text);

// Keeps the first fault of the launch and leaves the running block for good: its fibers are simply never resumed, and
// what they hold on the heap is lost.
[[noreturn]] void raise(const char* kind, const std::string& what);
}  // namespace emulation
