// types.h - what the launchers share. Fixed-width types and plain structs only: bindgen reads this.
//
// An activation is feature-major: one row per feature, tokens contiguous, `stride` elements from row
// to row. `stride` is a multiple of 128 and at least `tokens`; the elements from `tokens` to `stride`
// are zero on entry and every launcher leaves them zero in what it writes. Rows start on 16 bytes.
//
// Every launcher checks its arguments first, puts its work on `stream`, never synchronises, never
// allocates, never exits, and returns a status. Sums are f32 (or wider) in an order that depends on
// the shapes alone: the same inputs give the same bits. No float atomics.
//
// `version` picks an implementation: 0 the default, 1 the naive one that serves as oracle, further
// numbers as listed at the head of the family's .cu file.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "status.h"

// Element types.
enum chtsl_element { CHTSL_F32 = 0, CHTSL_BF16 = 1 };

// An activation (features, tokens) of f32 or bf16.
typedef struct chtsl_act {
    void* data;
    uint32_t features;
    uint32_t tokens;
    uint32_t stride;
    int32_t type;
} chtsl_act;

// Links of a sparse matrix (rows, cols) in compressed form. As CSR: `offsets` has rows + 1 entries,
// `indices` are columns, increasing within a row. As CSC: cols + 1 offsets, `indices` are rows.
typedef struct chtsl_links {
    const uint32_t* offsets;
    const uint32_t* indices;
    uint32_t rows;
    uint32_t cols;
    uint32_t nnz;
} chtsl_links;

// A dense matrix (rows, cols), row-major, `stride` elements from row to row.
typedef struct chtsl_matrix {
    void* data;
    uint32_t rows;
    uint32_t cols;
    uint32_t stride;
    int32_t type;
} chtsl_matrix;

// A CUDA stream.
typedef void* chtsl_stream;

// Symbols of the emulated kernels carry a suffix, so that both can live in one program.
#if defined(CHTSL_EMULATED)
#define CHTSL_SYMBOL(name) chtsl_##name##_emulated
#else
#define CHTSL_SYMBOL(name) chtsl_##name
#endif

// Declares a launcher and the type of a pointer to it. `CHTSL_QUERY` declares one that answers a
// question about sizes (bytes of scratch) and launches nothing.
#ifdef __cplusplus
#define CHTSL_C extern "C"
#else
#define CHTSL_C
#endif
#define CHTSL_LAUNCHER(name, ...)                    \
    typedef chtsl_status (*chtsl_##name##_fn)(__VA_ARGS__); \
    CHTSL_C chtsl_status CHTSL_SYMBOL(name)(__VA_ARGS__);
#define CHTSL_QUERY(name, ...)                   \
    typedef uint64_t (*chtsl_##name##_fn)(__VA_ARGS__); \
    CHTSL_C uint64_t CHTSL_SYMBOL(name)(__VA_ARGS__);
