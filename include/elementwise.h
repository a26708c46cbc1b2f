// elementwise.h - operations element by element, and the sum of squares. Kernels: kernels/elementwise.cu
#pragma once
#include "types.h"

// to[i,j] = from[i,j] rounded to the type of `to`; columns of `to` beyond `cols` up to its stride
// become zero. Equal rows and cols; types f32 -> bf16 or f32.
CHTSL_LAUNCHER(elementwise_cast, chtsl_matrix from, chtsl_matrix to, chtsl_stream stream)
