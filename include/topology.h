// topology.h - a remove-regrow event of one sparse matrix. Kernels: kernels/topology.cu
//
// The event is a chain: keys of the links, selection of those that stay, their CSR and CSC, scores of the
// missing links, keys, selection of the new ones, CSR and CSC of both together. Every step gives what
// src/topology computes from the same input, bit for bit: f64 operations round one by one, sums are
// integers, selections have a strict order. Nothing on the way depends on the order of threads.
//
// Positions of a matrix are numbered row by row, `flat = row cols + column`; rows cols is below 2^32.
#pragma once
#include "types.h"

// A stream of Philox 4x32-10 draws at 64-bit indices: the key and the upper half of the counter.
typedef struct chtsl_draws {
    uint32_t key_low;
    uint32_t key_high;
    uint32_t purpose;
    uint32_t event;
} chtsl_draws;

// How a weight or score x becomes the key that selections compare.
typedef struct chtsl_rank {
    chtsl_draws draws;
    double temperature;
    int32_t soft;  // 0: x itself. 1: temperature ln x + a Gumbel draw at the flat position
} chtsl_rank;

// What decides between equal keys, before the lower position does.
typedef struct chtsl_ties {
    chtsl_draws draws;
    int32_t random;  // 0: nothing. 1: words 2 and 3 of the draw at the flat position
} chtsl_ties;

// Keys are doubles mapped to integers of the same order. The smallest and the largest integer stand for no
// double and mark positions: `no candidate` and `linked` (kernels/topology/cut.cuh).

// `source` of a link that did not exist before; `refused` of weights that are all finite.
#define CHTSL_NONE 0xffffffffu

// keys[i] of link i from |values[i]|, one per link in CSR order. Zero weights have key -inf when soft.
// refused[0] = position of the first weight that is not finite (its key is -inf), or CHTSL_NONE.
CHTSL_LAUNCHER(topology_removal_keys, chtsl_links w, const float* values, chtsl_rank rank,
               uint64_t* keys, uint32_t* refused, chtsl_stream stream)

// Finds the threshold above which the k best of the candidates lie, in the order (key, tie word, lower
// position), and leaves it in `cut` (topology_cut_bytes() bytes, 16-byte aligned). With fewer than k
// candidates all are above it.
//
// With `per_link` keys are those of the links of `w`, all candidates; else there is one for each
// position of (w.rows, w.cols), marked where there is no candidate, and the pointers of `w` are not used.
// Reads the keys six times, tie words only where keys are equal.
CHTSL_LAUNCHER(topology_select, chtsl_links w, const uint64_t* keys, int32_t per_link, uint32_t k,
               chtsl_ties ties, void* cut, chtsl_stream stream)
CHTSL_QUERY(topology_cut_bytes, void)

// The links of `w` above the threshold of topology_select(per_link), in CSR; `source` is their position
// in `w`. row_offsets has rows + 1 entries, the others k.
CHTSL_LAUNCHER(topology_keep, chtsl_links w, const uint64_t* keys, chtsl_ties ties, const void* cut,
               uint32_t* row_offsets, uint32_t* column_indices, uint32_t* source,
               chtsl_stream stream)

// CH2-L3n (CHTs, eq. 3) of every position of a matrix in units of 2^-36; its links are marked `linked`.
// `w` are its links in CSR, `t` the same in CSC; scores (rows, cols). positives[0] = number of missing
// links with a positive score.
//
// For row i and column a: sum of E_ij over rows j of N(a) with common neighbours, plus sum of F_ab over
// columns b of N(i), E_ij = (1 + c_ij) / (d_j - c_ij) rounded to a unit. About nnz (rows + cols)
// additions; a block keeps the terms of 1 to 8 seeds in shared memory.
CHTSL_LAUNCHER(topology_scores, chtsl_links w, chtsl_links t, uint64_t* scores, uint64_t* positives,
               int32_t version, chtsl_stream stream)

// Turns scores into keys, in place. With fewer than n positive scores 1e-5 is added to all of them first
// (CHTs code); positions whose score is still zero become `no candidate`.
CHTSL_LAUNCHER(topology_regrowth_keys, uint32_t rows, uint32_t cols, const uint64_t* positives,
               uint32_t n, chtsl_rank rank, uint64_t* scores, chtsl_stream stream)

// The positions marked `linked` and those above the threshold of topology_select, in CSR; `source` is
// their position in `old`, or CHTSL_NONE. `old` has the extents of the matrix.
CHTSL_LAUNCHER(topology_join, chtsl_links old, const uint64_t* keys, chtsl_ties ties, const void* cut,
               uint32_t* row_offsets, uint32_t* column_indices, uint32_t* source,
               chtsl_stream stream)

// CSC of `w`: cols + 1 offsets, rows of the links, increasing in a column, and their CSR positions.
// `scratch` holds topology_transpose_words(rows, cols) words.
CHTSL_LAUNCHER(topology_transpose, chtsl_links w, uint32_t* scratch, uint32_t* col_offsets,
               uint32_t* row_indices, uint32_t* source, chtsl_stream stream)
CHTSL_QUERY(topology_transpose_words, uint32_t rows, uint32_t cols)

// to[i] = from[source[i]], 0 where that is CHTSL_NONE; `count` entries, `previous` of them before.
CHTSL_LAUNCHER(topology_migrate, const uint32_t* source, uint32_t count, const float* from,
               uint32_t previous, float* to, chtsl_stream stream)
