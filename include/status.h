// status.h - what launchers return.
#pragma once
#include <stdint.h>

// 0: the work was put on the stream. Positive: an error of the CUDA runtime, by its own number.
// Negative: an argument was refused before anything was launched, one of the codes below.
typedef int32_t chtsl_status;

enum chtsl_status_code {
    CHTSL_OK = 0,
    // Extents disagree, a pointer that is needed is null, or a stride is shorter than its row.
    CHTSL_BAD_SHAPE = -1,
    // A pointer or stride is not a multiple of 16 bytes.
    CHTSL_BAD_ALIGNMENT = -2,
    // An extent, or the grid it asks for, is beyond what the kernel can index.
    CHTSL_TOO_LARGE = -3,
    // A type, rank or version that this launcher does not have.
    CHTSL_UNSUPPORTED = -4,
};
