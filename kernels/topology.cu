// topology.cu - a remove-regrow event of one sparse matrix, step by step. Contract: include/topology.h.
//   keys     topology/keys.cuh, draws and logarithms in common/philox.cuh
//   scores   v1 one thread per position, straight from the formula: the oracle. v2 common neighbours and terms in
//            shared memory, topology/scores.cuh   <- default
//   select   radix selection, topology/select.cuh
//   rebuild  CSR, CSC, moved arrays, topology/rebuild.cuh
// Compiled without contraction (-fmad=false), and f64 arithmetic goes through _rn intrinsics besides: the host's bits
// must come out. Atomics are on integers alone.
#include "common/device.cuh"
#include "common/shape.cuh"
#include "topology.h"
#include "topology/keys.cuh"
#include "topology/rebuild.cuh"
#include "topology/scores.cuh"
#include "topology/select.cuh"

chtsl_status CHTSL_SYMBOL(topology_removal_keys)(chtsl_links w, const float* values, chtsl_rank rank, uint64_t* keys,
                                                 uint32_t* refused, chtsl_stream stream) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_positions(w.rows, w.cols));
    if (!refused || (w.nnz && (!values || !keys))) return CHTSL_BAD_SHAPE;
    auto on = static_cast<cudaStream_t>(stream);
    CHTSL_TRY(chtsl_status(cudaMemsetAsync(refused, 0xff, sizeof *refused, on)));
    if (w.nnz == 0) return CHTSL_OK;
    LAUNCH(removal_keys_kernel, dim3(groups(w.nnz, each_threads)), dim3(each_threads), 0, on, w, values, rank,
           reinterpret_cast<word*>(keys), refused);
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(topology_regrowth_keys)(uint32_t rows, uint32_t cols, const uint64_t* positives, uint32_t n,
                                                  chtsl_rank rank, uint64_t* scores, chtsl_stream stream) {
    CHTSL_TRY(check_positions(rows, cols));
    if (!positives || (rows && cols && !scores)) return CHTSL_BAD_SHAPE;
    const word positions = word(rows) * cols;
    if (positions == 0) return CHTSL_OK;
    LAUNCH(regrowth_keys_kernel, dim3(sweep(positions)), dim3(each_threads), 0,
           static_cast<cudaStream_t>(stream), positions, reinterpret_cast<const word*>(positives), n, rank,
           reinterpret_cast<word*>(scores));
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(topology_scores)(chtsl_links w, chtsl_links t, uint64_t* scores, uint64_t* positives, int32_t version,
                                           chtsl_stream stream) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_links(t));
    CHTSL_TRY(check_positions(w.rows, w.cols));
    if (t.rows != w.rows || t.cols != w.cols || t.nnz != w.nnz || !positives) return CHTSL_BAD_SHAPE;
    // As the host demands of a fixed-point sum that must not overflow.
    if (2 * uint64_t(w.nnz) + w.rows + w.cols >= uint64_t(1) << 28) return CHTSL_TOO_LARGE;
    const word positions = word(w.rows) * w.cols;
    auto on = static_cast<cudaStream_t>(stream);
    word *to = reinterpret_cast<word*>(scores), *count = reinterpret_cast<word*>(positives);
    CHTSL_TRY(chtsl_status(cudaMemsetAsync(positives, 0, sizeof *positives, on)));
    if (positions == 0) return CHTSL_OK;
    if (!scores) return CHTSL_BAD_SHAPE;
    const Side rows{w.offsets, w.indices, w.rows}, cols{t.offsets, t.indices, w.cols};
    const uint32_t row_seeds = seeds_per_block(w.rows), col_seeds = seeds_per_block(w.cols);
    if (version == 0) version = row_seeds && col_seeds ? 2 : 1;
    switch (version) {
        case 1:
            LAUNCH(scores_naive_kernel, dim3(groups(positions, each_threads)), dim3(each_threads), 0, on, rows, cols, to);
            CHTSL_TRY(launch_status());
            break;
        case 2:
            CHTSL_TRY(one_side<false>(row_seeds, rows, cols, to, w.cols, 1, on));
            CHTSL_TRY(one_side<true>(col_seeds, cols, rows, to, 1, w.cols, on));
            if (w.nnz) LAUNCH(mark_kernel, dim3(groups(w.nnz, each_threads)), dim3(each_threads), 0, on, w, to);
            CHTSL_TRY(launch_status());
            break;
        default: return CHTSL_UNSUPPORTED;
    }
    LAUNCH(positives_kernel, dim3(sweep(positions)), dim3(each_threads), 0, on, positions, to, count);
    return launch_status();
}

uint64_t CHTSL_SYMBOL(topology_cut_bytes)(void) { return sizeof(Cut); }

chtsl_status CHTSL_SYMBOL(topology_select)(chtsl_links w, const uint64_t* keys, int32_t per_link, uint32_t k, chtsl_ties ties,
                                           void* cut, chtsl_stream stream) {
    CHTSL_TRY(check_positions(w.rows, w.cols));
    if (per_link) CHTSL_TRY(check_links(w));
    const uint32_t count = per_link ? w.nnz : w.rows * w.cols;
    if (!cut || (count && !keys)) return CHTSL_BAD_SHAPE;
    if (!aligned_16(cut)) return CHTSL_BAD_ALIGNMENT;
    auto on = static_cast<cudaStream_t>(stream);
    Cut* to = static_cast<Cut*>(cut);
    CHTSL_TRY(chtsl_status(cudaMemsetAsync(to->histogram, 0, sizeof to->histogram, on)));
    LAUNCH(begin_kernel, dim3(1), dim3(1), 0, on, to, k);
    CHTSL_TRY(launch_status());
    if (count == 0) k = 0;
    const Candidates c{w, reinterpret_cast<const word*>(keys), count, per_link != 0, ties};
    const uint32_t blocks = min(groups(count, 8 * count_threads), count_blocks);
    for (Part part : {key_part, tie_part, order_part}) {
        if (k == 0) break;
        if (part == tie_part && !ties.random) continue;  // all equal
        for (uint32_t end = part == order_part ? 32 : 64; end > 0;) {
            const uint32_t bits = end < 11 ? end : 11;
            const Digit d{part, end - bits, bits};
            LAUNCH(count_kernel, dim3(blocks), dim3(count_threads), 0, on, c, to, d);
            CHTSL_TRY(launch_status());
            LAUNCH(pick_kernel, dim3(1), dim3(pick_threads), 0, on, to, d);
            CHTSL_TRY(launch_status());
            end -= bits;
        }
    }
    return CHTSL_OK;
}

chtsl_status CHTSL_SYMBOL(topology_keep)(chtsl_links w, const uint64_t* keys, chtsl_ties ties, const void* cut, uint32_t* row_offsets,
                                         uint32_t* column_indices, uint32_t* source, chtsl_stream stream) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_positions(w.rows, w.cols));
    const Kept s{w, reinterpret_cast<const word*>(keys), ties, static_cast<const Cut*>(cut)};
    return rebuild(s, row_offsets, column_indices, source, stream);
}

chtsl_status CHTSL_SYMBOL(topology_join)(chtsl_links old, const uint64_t* keys, chtsl_ties ties, const void* cut, uint32_t* row_offsets,
                                         uint32_t* column_indices, uint32_t* source, chtsl_stream stream) {
    CHTSL_TRY(check_links(old));
    CHTSL_TRY(check_positions(old.rows, old.cols));
    if (old.rows && old.cols && !keys) return CHTSL_BAD_SHAPE;
    const Joined s{old, reinterpret_cast<const word*>(keys), ties, static_cast<const Cut*>(cut)};
    return rebuild(s, row_offsets, column_indices, source, stream);
}

uint64_t CHTSL_SYMBOL(topology_transpose_words)(uint32_t rows, uint32_t cols) { return 2 * ((uint64_t(rows) + 31) / 32) * cols; }

chtsl_status CHTSL_SYMBOL(topology_transpose)(chtsl_links w, uint32_t* scratch, uint32_t* col_offsets, uint32_t* row_indices,
                                              uint32_t* source, chtsl_stream stream) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_positions(w.rows, w.cols));
    const uint32_t tiles = groups(w.rows, 32);
    const size_t words = size_t(tiles) * w.cols;
    if (!col_offsets || (words && !scratch) || (w.nnz && (!row_indices || !source))) return CHTSL_BAD_SHAPE;
    auto on = static_cast<cudaStream_t>(stream);
    uint32_t *masks = scratch, *before = scratch + words;
    if (words) CHTSL_TRY(chtsl_status(cudaMemsetAsync(masks, 0, words * sizeof *masks, on)));
    const dim3 per_link(groups(w.nnz, each_threads)), threads(each_threads);
    if (w.nnz) LAUNCH(column_masks_kernel, per_link, threads, 0, on, w, masks);
    CHTSL_TRY(launch_status());
    if (w.cols) LAUNCH(column_lengths_kernel, dim3(groups(w.cols, each_threads)), threads, 0, on, w.cols, tiles, masks, before, col_offsets);
    CHTSL_TRY(launch_status());
    LAUNCH(offsets_kernel, dim3(1), dim3(scan_threads), 0, on, col_offsets, w.cols);
    CHTSL_TRY(launch_status());
    if (w.nnz) LAUNCH(column_links_kernel, per_link, threads, 0, on, w, masks, before, col_offsets, row_indices, source);
    return launch_status();
}

chtsl_status CHTSL_SYMBOL(topology_migrate)(const uint32_t* source, uint32_t count, const float* from, uint32_t previous, float* to,
                                            chtsl_stream stream) {
    if (count > largest_extent || previous > largest_extent) return CHTSL_TOO_LARGE;
    if (count && (!source || !to || (previous && !from))) return CHTSL_BAD_SHAPE;
    if (count == 0) return CHTSL_OK;
    LAUNCH(migrate_kernel, dim3(groups(count, each_threads)), dim3(each_threads), 0, static_cast<cudaStream_t>(stream), source, count, from, to);
    return launch_status();
}
