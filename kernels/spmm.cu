// spmm.cu - products of a sparse matrix with feature-major activations. Contract: include/spmm.h.
//   v1  one thread per output element; obvious, slow, the oracle on the device
//   v2  one warp per (output row, 256 tokens): lanes fetch 32 links at once and hand them round, 16-byte loads
//       of the operand, four links in flight; the operand is read from L2 once per link
//   v3  a block keeps a tile of 128 (or 64, 32) tokens of all operand rows in shared memory; a warp walks the
//       links of an output row and every lane adds its tokens: the operand leaves device memory once   <- default
//       where the tile fits, else v2
// Forward and transposed product are the same kernels over CSR and CSC; in CSC order a value is fetched through
// `source`. Accumulates in f32, links in stored order. No atomics: one warp owns an output element.
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"
#include "spmm.h"

namespace {

// One product: out[i, n] (+)= sum over links l of list i of value(l) operand[index(l), n].
template <class T> struct Product {
    const uint32_t* offsets;
    const uint32_t* indices;
    const uint32_t* source;  // null: values are in link order
    const T* values;
    const T* operand;
    T* out;
    uint32_t lists, operands;  // rows of out, rows of operand
    size_t operand_stride, out_stride;
    uint32_t width;  // tokens to compute: the shorter stride, so that padding stays zero
    bool accumulate;

    DEVICE float value(uint32_t link) const { return to_float(values[source ? source[link] : link]); }
};

// v1. Grid: ceil(width / 128) blocks per list, 128 threads, one token each.
template <class T> __global__ void __launch_bounds__(128) product_naive_kernel(Product<T> p, uint32_t tiles) {
    uint32_t list = blockIdx.x / tiles, n = blockIdx.x % tiles * 128 + threadIdx.x;
    if (n >= p.width) return;
    float sum = 0;
    for (uint32_t i = p.offsets[list]; i < p.offsets[list + 1]; ++i)
        sum += p.value(i) * to_float(p.operand[p.indices[i] * p.operand_stride + n]);
    T& out = p.out[list * p.out_stride + n];
    out = from_float<T>(p.accumulate ? to_float(out) + sum : sum);
}

constexpr uint32_t warp_tokens = 256, warp_lists = 4;

// v2. Grid: ceil(width / 256) blocks per four lists, 128 threads: warp w has list 4 b + w, a lane 8 tokens.
template <class T> __global__ void __launch_bounds__(32 * warp_lists) product_warp_kernel(Product<T> p, uint32_t tiles) {
    uint32_t lane = threadIdx.x % 32, list = blockIdx.x / tiles * warp_lists + threadIdx.x / 32;
    if (list >= p.lists) return;  // the whole warp leaves
    uint32_t n = blockIdx.x % tiles * warp_tokens + 8 * lane;
    bool inside = n < p.width;
    float sum[8] = {};
    uint32_t begin = p.offsets[list], end = p.offsets[list + 1];
    for (uint32_t first = begin; first < end; first += 32) {
        uint32_t mine = first + lane, count = min(32u, end - first);
        uint32_t index = mine < end ? p.indices[mine] : 0;
        float value = mine < end ? p.value(mine) : 0.0f;
#pragma unroll 4
        for (uint32_t i = 0; i < count; ++i) {
            uint32_t k = __shfl_sync(all_lanes, index, int(i));
            float w = __shfl_sync(all_lanes, value, int(i));
            if (!inside) continue;
            float x[8];
            load_eight(x, p.operand + k * p.operand_stride + n);
#pragma unroll
            for (int j = 0; j < 8; ++j) sum[j] += w * x[j];
        }
    }
    if (!inside) return;
    T* out = p.out + list * p.out_stride + n;
    if (p.accumulate) {
        float before[8];
        load_eight(before, out);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[j] += before[j];
    }
    store_eight(out, sum);
}

// `each` tokens of a lane from shared memory, as one access.
template <int each> DEVICE void load_tokens(float (&to)[each], const bf16* from) {
    static_assert(each == 4 || each == 2 || each == 1, "8, 4 or 2 bytes");
    if constexpr (each == 4) {
        const uint2 word = *reinterpret_cast<const uint2*>(from);
        to[0] = low_bf16(word.x), to[1] = high_bf16(word.x), to[2] = low_bf16(word.y), to[3] = high_bf16(word.y);
    } else if constexpr (each == 2) {
        const uint32_t word = *reinterpret_cast<const uint32_t*>(from);
        to[0] = low_bf16(word), to[1] = high_bf16(word);
    } else {
        to[0] = to_float(*from);
    }
}
template <int each> DEVICE void load_tokens(float (&to)[each], const float* from) {
    if constexpr (each == 4) {
        const float4 word = *reinterpret_cast<const float4*>(from);
        to[0] = word.x, to[1] = word.y, to[2] = word.z, to[3] = word.w;
    } else if constexpr (each == 2) {
        const float2 word = *reinterpret_cast<const float2*>(from);
        to[0] = word.x, to[1] = word.y;
    } else {
        to[0] = *from;
    }
}
template <int each> DEVICE void store_tokens(bf16* to, const float (&from)[each]) {
    if constexpr (each == 4)
        *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3])};
    else if constexpr (each == 2)
        *reinterpret_cast<uint32_t*>(to) = pack_bf16(from[0], from[1]);
    else
        *to = from_float<bf16>(from[0]);
}
template <int each> DEVICE void store_tokens(float* to, const float (&from)[each]) {
    if constexpr (each == 4)
        *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], from[3]};
    else if constexpr (each == 2)
        *reinterpret_cast<float2*>(to) = float2{from[0], from[1]};
    else
        *to = from[0];
}

constexpr uint32_t tile_warps = 16;

// v3. Grid (ceil(width / tile), list groups), 512 threads, operands * tile elements of dynamic shared memory, where
// tile = 32 each. Lists go round the warps of all groups; a lane has `each` neighbouring tokens.
template <class T, int each> __global__ void __launch_bounds__(32 * tile_warps) product_tile_kernel(Product<T> p) {
    constexpr uint32_t tile = 32 * each, chunk = 16 / sizeof(T), chunks = tile / chunk;
    DYNAMIC_SHARED(T, operand);
    uint32_t first = blockIdx.x * tile;
    for (uint32_t i = threadIdx.x; i < p.operands * chunks; i += 32 * tile_warps) {
        uint32_t k = i / chunks, n = i % chunks * chunk;
        bool valid = first + n < p.width;
        copy_async_16(operand + k * tile + n, valid ? p.operand + k * p.operand_stride + first + n : p.operand, valid);
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint32_t lane = threadIdx.x % 32, n = first + lane * each;
    for (uint32_t list = blockIdx.y * tile_warps + threadIdx.x / 32; list < p.lists; list += gridDim.y * tile_warps) {
        float sum[each] = {};
        uint32_t begin = p.offsets[list], end = p.offsets[list + 1];
        for (uint32_t link = begin; link < end; link += 32) {
            uint32_t mine = link + lane, count = min(32u, end - link);
            uint32_t index = mine < end ? p.indices[mine] : 0;
            float value = mine < end ? p.value(mine) : 0.0f;
#pragma unroll 4
            for (uint32_t i = 0; i < count; ++i) {
                uint32_t k = __shfl_sync(all_lanes, index, int(i));
                float w = __shfl_sync(all_lanes, value, int(i));
                float x[each];
                load_tokens<each>(x, operand + k * tile + lane * each);
#pragma unroll
                for (int j = 0; j < each; ++j) sum[j] += w * x[j];
            }
        }
        if (n >= p.width) continue;
        T* out = p.out + list * p.out_stride + n;
        if (p.accumulate) {
            float before[each];
            load_tokens<each>(before, out);
#pragma unroll
            for (int j = 0; j < each; ++j) sum[j] += before[j];
        }
        store_tokens<each>(out, sum);
    }
}

template <class T> chtsl_status launch_naive(const Product<T>& p, cudaStream_t stream) {
    uint32_t tiles = (p.width + 127) / 128;
    if (uint64_t(tiles) * p.lists > largest_extent) return CHTSL_TOO_LARGE;
    LAUNCH(product_naive_kernel<T>, dim3(tiles * p.lists), dim3(128), 0, stream, p, tiles);
    return launch_status();
}

template <class T> chtsl_status launch_warp(const Product<T>& p, cudaStream_t stream) {
    uint32_t tiles = (p.width + warp_tokens - 1) / warp_tokens, groups = (p.lists + warp_lists - 1) / warp_lists;
    if (uint64_t(tiles) * groups > largest_extent) return CHTSL_TOO_LARGE;
    LAUNCH(product_warp_kernel<T>, dim3(tiles * groups), dim3(32 * warp_lists), 0, stream, p, tiles);
    return launch_status();
}

template <class T, int each> chtsl_status launch_tile(const Product<T>& p, cudaStream_t stream) {
    uint32_t tiles = (p.width + 32 * each - 1) / (32 * each), bytes = p.operands * 32 * each * uint32_t(sizeof(T));
    // Enough blocks for every multiprocessor even when tokens are few; each group reads the operand again.
    uint32_t groups = max(1u, min((p.lists + tile_warps - 1) / tile_warps, 264 / tiles));
    cudaError_t error = cudaFuncSetAttribute(product_tile_kernel<T, each>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    if (error != cudaSuccess) return chtsl_status(error);
    LAUNCH((product_tile_kernel<T, each>), dim3(tiles, groups), dim3(32 * tile_warps), bytes, stream, p);
    return launch_status();
}

template <class T> chtsl_status launch(const Product<T>& p, int32_t version, cudaStream_t stream) {
    if (p.lists == 0 || p.width == 0) return CHTSL_OK;
    // The widest tile that leaves room for two blocks, else the widest that fits at all.
    uint64_t token = uint64_t(p.operands) * 32 * sizeof(T), limit = shared_memory_limit();
    auto widest = [&](uint64_t room) { return 4 * token <= room ? 4 : 2 * token <= room ? 2 : token <= room ? 1 : 0; };
    int each = max(widest(limit / 2), min(2, widest(limit)));
    if (version == 0) version = each ? 3 : 2;
    switch (version) {
        case 1: return launch_naive(p, stream);
        case 2: return launch_warp(p, stream);
        case 3:
            switch (each) {
                case 4: return launch_tile<T, 4>(p, stream);
                case 2: return launch_tile<T, 2>(p, stream);
                case 1: return launch_tile<T, 1>(p, stream);
                default: return CHTSL_UNSUPPORTED;
            }
        default: return CHTSL_UNSUPPORTED;
    }
}

// Checks what both products share: lists of `w` are rows of `out`.
chtsl_status check(const chtsl_links& w, uint32_t lists, uint32_t operands, const void* values, const chtsl_act& operand,
                   const chtsl_act& out) {
    CHTSL_TRY(check_links(w));
    CHTSL_TRY(check_act(operand, operands, operand.tokens));
    CHTSL_TRY(check_act(out, lists, operand.tokens));
    if (operand.type != out.type) return CHTSL_UNSUPPORTED;
    if (w.nnz && !values) return CHTSL_BAD_SHAPE;
    return CHTSL_OK;
}

template <class T>
chtsl_status run(const chtsl_links& w, uint32_t lists, uint32_t operands, const uint32_t* source, const void* values,
                 const chtsl_act& operand, const chtsl_act& out, bool accumulate, int32_t version, chtsl_stream stream) {
    Product<T> p{w.offsets, w.indices, source, static_cast<const T*>(values), data<T>(operand),
                 data<T>(out), lists, operands, operand.stride, out.stride, min(operand.stride, out.stride),
                 accumulate};
    return launch(p, version, static_cast<cudaStream_t>(stream));
}

}  // namespace

chtsl_status CHTSL_SYMBOL(spmm_forward)(chtsl_links w, const void* values, chtsl_act x, chtsl_act y, int32_t version,
                                        chtsl_stream stream) {
    CHTSL_TRY(check(w, w.rows, w.cols, values, x, y));
    return x.type == CHTSL_BF16 ? run<bf16>(w, w.rows, w.cols, nullptr, values, x, y, false, version, stream)
                                : run<float>(w, w.rows, w.cols, nullptr, values, x, y, false, version, stream);
}

chtsl_status CHTSL_SYMBOL(spmm_transposed)(chtsl_links t, const uint32_t* source, const void* values, chtsl_act dy,
                                           chtsl_act dx, int32_t accumulate, int32_t version, chtsl_stream stream) {
    CHTSL_TRY(check(t, t.cols, t.rows, values, dy, dx));
    if (t.nnz && !source) return CHTSL_BAD_SHAPE;
    return dy.type == CHTSL_BF16 ? run<bf16>(t, t.cols, t.rows, source, values, dy, dx, accumulate, version, stream)
                                 : run<float>(t, t.cols, t.rows, source, values, dy, dx, accumulate, version, stream);
}
