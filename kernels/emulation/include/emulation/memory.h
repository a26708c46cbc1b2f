// memory.h - shared memory, asynchronous copies, loads with a cache hint, and the checks behind the device wrappers.
#pragma once
#include "emulation/language.h"

namespace emulation {
enum class Access { read, write, atomic };

// Faults unless the running thread may make this access now.
void check(const void* address, size_t bytes, Access access, size_t alignment, Site site);

// Dynamic shared memory of the running block.
void* dynamic_shared();

// cp.async: nothing is copied before the wait, so that reading too early finds a word in flight.
void copy_async(void* shared, const void* global, unsigned bytes, unsigned valid_bytes, Site site);
void copy_async_commit();
void copy_async_wait(unsigned groups_left);

// The calling lane's row of an ldmatrix of `count` matrices: checks it and copies its 16 bytes. Lanes past 8 * count
// receive zeros.
void read_matrix_row(const void* row, int count, unsigned (&words)[4], Site site);
// Counts the bank passes of the rows that the warp's lanes have just read.
void count_matrices(int count);

// Ends the launch with a fault that `last_fault` will report.
[[noreturn]] void fault(const char* kind, Site site, const char* what);
}  // namespace emulation

#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(emulation::dynamic_shared())

// Inlined always, so that a fault is reported at the line of the kernel.
#define EMULATION_LOAD(name) template <class T> inline __attribute__((always_inline)) T name(const T* p) { return *p; }
#define EMULATION_STORE(name) template <class T> inline __attribute__((always_inline)) void name(T* p, T v) { *p = v; }
EMULATION_LOAD(__ldg)
EMULATION_LOAD(__ldca)
EMULATION_LOAD(__ldcg)
EMULATION_LOAD(__ldcs)
EMULATION_STORE(__stcg)
EMULATION_STORE(__stcs)
// Blocks take turns or run on host threads; the memory model between them is not emulated.
inline void __threadfence() {}
inline void __threadfence_block() {}
#define __trap() emulation::fault("trap", emulation::here(), "__trap()")
