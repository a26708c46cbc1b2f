// launchers.h - every launcher in one table, so that the device's kernels and the emulated ones can
// be reached the same way. A new launcher is one line in the list below.
#pragma once
#include "adam.h"
#include "alignment.h"
#include "attention.h"
#include "cross_entropy.h"
#include "elementwise.h"
#include "embedding.h"
#include "low_rank.h"
#include "rmsnorm.h"
#include "scatter.h"
#include "sddmm.h"
#include "spmm.h"
#include "topology.h"

// One X(name) per CHTSL_LAUNCHER or CHTSL_QUERY of the family headers.
#define CHTSL_FOR_EACH_LAUNCHER(X) \
    X(adam)                        \
    X(alignment_forward)           \
    X(alignment_backward)          \
    X(elementwise_cast)            \
    X(elementwise_add)             \
    X(elementwise_swiglu_forward)  \
    X(elementwise_swiglu_backward) \
    X(elementwise_sum_squares)     \
    X(elementwise_partials)        \
    X(elementwise_column)          \
    X(attention_forward)           \
    X(attention_backward)          \
    X(attention_decode)            \
    X(cross_entropy_loss)          \
    X(cross_entropy_partials)      \
    X(cross_entropy_gradient)      \
    X(embedding_forward)           \
    X(embedding_backward)          \
    X(low_rank_forward)            \
    X(low_rank_backward)           \
    X(rmsnorm_forward)             \
    X(rmsnorm_backward)            \
    X(rmsnorm_partials)            \
    X(scatter_values)              \
    X(scatter_gather)              \
    X(sddmm)                       \
    X(spmm_forward)                \
    X(spmm_transposed)             \
    X(topology_removal_keys)       \
    X(topology_select)             \
    X(topology_cut_bytes)          \
    X(topology_keep)               \
    X(topology_scores)             \
    X(topology_regrowth_keys)      \
    X(topology_join)               \
    X(topology_transpose)          \
    X(topology_transpose_words)    \
    X(topology_migrate)

#define CHTSL_FIELD(name) chtsl_##name##_fn name;
typedef struct chtsl_launcher_table {
    CHTSL_FOR_EACH_LAUNCHER(CHTSL_FIELD)
} chtsl_launcher_table;
#undef CHTSL_FIELD

// The table. Lives as long as the program.
CHTSL_C const chtsl_launcher_table* CHTSL_SYMBOL(launchers)(void);
