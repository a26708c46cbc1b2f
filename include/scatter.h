// scatter.h - between links and dense matrices, for products made by the dense library.
// Kernels: kernels/scatter.cu
#pragma once
#include "types.h"

// Dense form of a sparse matrix: out[m,k] = values[link(m,k)], 0 where there is no link, columns
// beyond `cols` up to the stride included. `out` (rows, cols) of f32 or bf16; values f32.
CHTSL_LAUNCHER(scatter_values, chtsl_links w, const float* values, chtsl_matrix out,
               int32_t version, chtsl_stream stream)

// Gradient at the links from a dense one: dvalues[link(m,k)] += dense[m,k]. dense f32.
CHTSL_LAUNCHER(scatter_gather, chtsl_links w, chtsl_matrix dense, float* dvalues,
               int32_t version, chtsl_stream stream)
