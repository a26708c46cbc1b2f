// context.h - switches between the stacks of fibers, without system calls.
#pragma once
#include <cstddef>

// Saves what the calling convention asks a callee to keep, swaps stack pointers, restores. Rounding modes are shared.
extern "C" void chtsl_emulation_swap(void** save, void* next);

namespace emulation {
struct Context { void* stack_pointer = nullptr; };

// Makes `c` begin `entry` on the stack [bottom, bottom + bytes) when first switched to. `entry` must not return.
void prepare(Context& c, char* bottom, size_t bytes, void (*entry)());

inline void swap(Context& from, Context& to) { chtsl_emulation_swap(&from.stack_pointer, to.stack_pointer); }
}  // namespace emulation
