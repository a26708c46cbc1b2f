// emulation.h - what a kernel sees when a C++17 compiler, not nvcc, compiles it: enough of CUDA C++ and of its runtime to
// run the project's kernels on the CPU, in tests.
//
//   threads   the threads of a block are fibers on one host thread; a fiber gives way only at barriers and warp
//             collectives, in forward, reverse or seeded random lane order. Blocks spread over host threads.
//   memory    `__shared__` is thread-local storage of the host thread; buffers come from the allocator in runtime/.
//   checks    `-fsanitize=thread` makes the compiler announce every load and store through __tsan_* functions, and
//             `-fsanitize=bounds` every index past a static array. runtime/ defines those functions in the sanitizers'
//             stead, so kernels need no accessor and no special pointer type.
#pragma once
#include "emulation/language.h"
#include "emulation/arithmetic.h"
#include "emulation/bf16.h"
#include "emulation/memory.h"
#include "emulation/atomics.h"
#include "emulation/collectives.h"
#include "emulation/cuda_runtime.h"
#include "emulation/launch.h"
