// sddmm.h - gradients at the links: sampled products of two activations. Kernels: kernels/sddmm.cu
#pragma once
#include "types.h"

// dvalues[link(m,k)] += sum_n dy[m,n] x[k,n] for the links of `w` (CSR).
//
// dy (rows, N), x (cols, N), both of one type; dvalues f32, one per link. One warp owns a link, so
// its sum has a fixed order. 2 nnz N flops.
CHTSL_LAUNCHER(sddmm, chtsl_links w, chtsl_act dy, chtsl_act x, float* dvalues, int32_t version,
               chtsl_stream stream)
