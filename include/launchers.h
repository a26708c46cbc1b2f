// launchers.h - every launcher in one table, so that the device's kernels and the emulated ones can
// be reached the same way. A new launcher is one line in the list below.
#pragma once
#include "spmm.h"

// One X(name) per CHTSL_LAUNCHER or CHTSL_QUERY of the family headers.
#define CHTSL_FOR_EACH_LAUNCHER(X) \
    X(spmm_forward)                \
    X(spmm_transposed)

#define CHTSL_FIELD(name) chtsl_##name##_fn name;
typedef struct chtsl_launcher_table {
    CHTSL_FOR_EACH_LAUNCHER(CHTSL_FIELD)
} chtsl_launcher_table;
#undef CHTSL_FIELD

// The table. Lives as long as the program.
CHTSL_C const chtsl_launcher_table* CHTSL_SYMBOL(launchers)(void);
