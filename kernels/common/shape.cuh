// shape.cuh - checks that launchers share. `static`: the device's and the emulated launchers meet in one test program,
// where two `inline` functions of one name become one, and launch_status differs.
#pragma once
#include "common/device.cuh"
#include "types.h"

constexpr uint32_t largest_extent = 0x7fffffffu;
constexpr uint32_t largest_grid_y = 65535u;

static inline bool aligned_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

static inline size_t element_bytes(int32_t type) { return type == CHTSL_BF16 ? 2 : 4; }

// A usable activation of `features` rows and `tokens` columns.
static inline chtsl_status check_act(const chtsl_act& x, uint32_t features, uint32_t tokens) {
    if (x.type != CHTSL_F32 && x.type != CHTSL_BF16) return CHTSL_UNSUPPORTED;
    if (x.features != features || x.tokens != tokens || x.stride < x.tokens) return CHTSL_BAD_SHAPE;
    if (features > largest_extent || x.stride > largest_extent) return CHTSL_TOO_LARGE;
    if (features && tokens && !x.data) return CHTSL_BAD_SHAPE;
    if (x.stride % 128 || !aligned_16(x.data)) return CHTSL_BAD_ALIGNMENT;
    return CHTSL_OK;
}

// Elements of an activation or a matrix, as the type that its launcher has found it to have.
template <class T, class X> static inline T* data(const X& x) { return static_cast<T*>(x.data); }

// Usable links; `lists` is rows for CSR and cols for CSC.
static inline chtsl_status check_links(const chtsl_links& w) {
    if (w.rows > largest_extent || w.cols > largest_extent || w.nnz > largest_extent) return CHTSL_TOO_LARGE;
    if (!w.offsets || (w.nnz && !w.indices)) return CHTSL_BAD_SHAPE;
    if (uint64_t(w.rows) * w.cols < w.nnz) return CHTSL_BAD_SHAPE;
    return CHTSL_OK;
}

// Returns from a launcher with the first status that is not CHTSL_OK.
#define CHTSL_TRY(expression)                          \
    do {                                               \
        chtsl_status status_ = (expression);           \
        if (status_ != CHTSL_OK) return status_;       \
    } while (0)

// Status of the launch just made.
static inline chtsl_status launch_status() { return static_cast<chtsl_status>(cudaGetLastError()); }
