// launch.h - LAUNCH, which common/device.cuh gives the device as <<<...>>>.
#pragma once
#include "emulation/language.h"

namespace emulation {
struct Launch {
    const char* name;
    const void* kernel;
    dim3 grid, block;
    size_t shared_bytes;
    void (*call)(const void* arguments);  // one thread of the kernel
    const void* arguments;
    size_t argument_bytes;
    Site site;
};
// Returns when the grid is done or a fault has ended it; cudaGetLastError tells which.
void run(const Launch& launch);

template <class... P, class... A>
void launch(const char* name, Site site, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A&&... given) {
    using Held = std::tuple<void (*)(P...), P...>;
    Held held(kernel, static_cast<P>(given)...);
    auto call = [](const void* p) {
        std::apply([](void (*kernel)(P...), const P&... a) { kernel(a...); }, *static_cast<const Held*>(p));
    };
    run({name, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, call, &held, sizeof held, site});
}
}  // namespace emulation

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    ((void)(stream), emulation::launch(#kernel, emulation::here(), kernel, grid, block, shared_bytes, __VA_ARGS__))
