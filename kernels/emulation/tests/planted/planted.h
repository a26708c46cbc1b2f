// planted.h - how a kernel of this folder is offered to tests/emulation. A kernel here has one mistake that the emulator
// must name, or is sound and must pass.
#pragma once
#include "common/device.cuh"

struct Planted {
    const char* file;
    const char* kernel;
    const char* kinds;               // any of these, separated by commas; "" for a sound kernel
    int32_t (*launch)(float* out);   // out: 256 floats; a sound kernel leaves 1 in each
};

struct PlantedTable {
    const Planted* rows;
    size_t count;
};

// One launch of 64 threads. A reader that comes before the writer finds a word nobody wrote, one that comes after it
// finds a race: which of the two depends on the lane order, so such a mistake has two names.
#define PLANT(kinds, kernel, blocks, shared_bytes) \
    {__FILE__, #kernel, kinds, [](float* out) { LAUNCH((kernel), dim3(blocks), dim3(64), shared_bytes, nullptr, out); return int32_t(cudaGetLastError()); }}
// Ends a file: the rows, under a name that tests find.
#define PLANTED_TABLE(name, rows)                                                       \
    extern "C" __attribute__((visibility("default"))) PlantedTable chtsl_planted_##name() { \
        return {rows, sizeof rows / sizeof rows[0]};                                    \
    }
