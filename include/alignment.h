// alignment.h - the branches S and L of a projection side by side: O = S + L, the sums behind the
// alignment term and the output cancellation ratio, and the term's gradient. Kernels: kernels/alignment.cu
#pragma once
#include "types.h"

// Rows of the branch sums, each per token over all features.
enum chtsl_branch_sum {
    CHTSL_SUM_DIFFERENCE = 0,  // (S - L)^2
    CHTSL_SUM_CANCELLED = 1,   // min(|S|, |L|) where S L < 0
    CHTSL_SUM_OVERLAP = 2,     // min(|S|, |L|)
    CHTSL_SUM_SPARSE = 3,      // S^2
    CHTSL_SUM_LOW_RANK = 4,    // L^2
    CHTSL_SUMS = 5,
};

// o = s + l and, with `sums`, the branch sums.
//
// s, l, o (features, N) of one type, sums (CHTSL_SUMS, N) of f32. Overwrites o and sums. `l` without
// data stands for zero, `sums` without data are not wanted; `o` may be `s` or `l`. One block owns its
// tokens: features are added in turn by 32 threads, whose sums are joined in a fixed order.
CHTSL_LAUNCHER(alignment_forward, chtsl_act s, chtsl_act l, chtsl_act o, chtsl_act sums,
               int32_t version, chtsl_stream stream)

// d_s = d_o + c (o - 2 l), d_l = d_o - c (o - 2 l): gradients of both branches with the alignment
// term's, whose coefficients c (1, N) are f32 per token.
//
// d_o, o, l, d_s, d_l (features, N) of one type. Overwrites d_s and d_l; either may be `d_o`.
CHTSL_LAUNCHER(alignment_backward, chtsl_act d_o, chtsl_act o, chtsl_act l, chtsl_act coefficients,
               chtsl_act d_s, chtsl_act d_l, int32_t version, chtsl_stream stream)
