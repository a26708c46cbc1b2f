// spmm.h - products of a sparse matrix with activations. Kernels: kernels/spmm.cu
#pragma once
#include "types.h"

// Sparse forward y[m,n] = sum_k w[m,k] x[k,n] over the links of `w` (CSR), branch S of O = S + L.
//
// x (cols, N), y (rows, N), both of one type; `values` one per link, of the activations' type.
// Overwrites y; rows without links become zero. Sums run in column order. 2 nnz N flops.
CHTSL_LAUNCHER(spmm_forward, chtsl_links w, const void* values, chtsl_act x, chtsl_act y,
               int32_t version, chtsl_stream stream)

// Transposed product dx[k,n] (+)= sum_m w[m,k] dy[m,n] through the CSC form `t` of the links.
//
// `t`: cols + 1 offsets, row of each link; `source` CSR position of each link in CSC order, `values`
// in CSR order. dy (rows, N), dx (cols, N). Adds to dx when `accumulate` is not 0, else overwrites.
// Sums run in row order; no atomics. 2 nnz N flops.
CHTSL_LAUNCHER(spmm_transposed, chtsl_links t, const uint32_t* source, const void* values,
               chtsl_act dy, chtsl_act dx, int32_t accumulate, int32_t version,
               chtsl_stream stream)
