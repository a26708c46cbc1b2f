// adam.cu - Adam and AdamW with the refresh of the operand copy. Contract: include/adam.h.
//   v1  one thread per element; obvious, the oracle on the device
//   v2  four elements per thread, 16-byte accesses; the rounded copy costs 2 bytes more of 28 (32 with ages)   <- default
// Elements are independent: no order to keep.
#include "adam.h"
#include "common/device.cuh"
#include "common/eight.cuh"
#include "common/shape.cuh"

namespace {

struct Update {
    float* p;
    const float* g;
    float* m;
    float* v;
    float* ages;         // null: the numbers of the step count for all
    const float* table;  // (1 / (1 - beta1^t), root correction) by age
    uint32_t table_len;
    size_t len;
    chtsl_adam_step step;
    bf16* operand;  // null: none
    uint32_t cols, stride;
};

struct Element {
    float p, g, m, v, age;
};

DEVICE void advance(const Update& u, Element& e) {
    const chtsl_adam_step& s = u.step;
    float step_size = s.step_size, root_correction = s.root_correction;
    if (u.ages) {
        e.age += 1.0f;
        uint32_t entry = min(uint32_t(e.age), u.table_len - 1);
        step_size = s.lr * u.table[2 * entry], root_correction = u.table[2 * entry + 1];
    }
    float g = e.g * s.grad_scale + s.coupled_decay * e.p;
    e.m += s.one_minus_beta1 * (g - e.m);
    e.v = s.beta2 * e.v + s.one_minus_beta2 * g * g;
    e.p = e.p * s.shrink - step_size * (e.m / (sqrtf(e.v) * root_correction + s.eps));
}

DEVICE size_t operand_place(const Update& u, size_t i) { return u.cols == u.stride ? i : i / u.cols * u.stride + i % u.cols; }

DEVICE void advance_one(const Update& u, size_t i) {
    Element e{u.p[i], u.g[i], u.m[i], u.v[i], u.ages ? u.ages[i] : 0.0f};
    advance(u, e);
    u.p[i] = e.p, u.m[i] = e.m, u.v[i] = e.v;
    if (u.ages) u.ages[i] = e.age;
    if (u.operand) u.operand[operand_place(u, i)] = from_float<bf16>(e.p);
}

constexpr uint32_t block_threads = 256;

// v1. Grid len / 256, 256 threads.
__global__ void __launch_bounds__(block_threads) adam_naive_kernel(Update u) {
    size_t i = size_t(blockIdx.x) * block_threads + threadIdx.x;
    if (i < u.len) advance_one(u, i);
}

// v2. Grid len / 1024, 256 threads. The last elements that fill no group of four go one by one.
__global__ void __launch_bounds__(block_threads) adam_kernel(Update u) {
    size_t i = 4 * (size_t(blockIdx.x) * block_threads + threadIdx.x);
    if (i + 4 > u.len) {
        for (; i < u.len; ++i) advance_one(u, i);
        return;
    }
    float4 p = *reinterpret_cast<const float4*>(u.p + i), g = *reinterpret_cast<const float4*>(u.g + i);
    float4 m = *reinterpret_cast<const float4*>(u.m + i), v = *reinterpret_cast<const float4*>(u.v + i);
    float4 age = u.ages ? *reinterpret_cast<const float4*>(u.ages + i) : float4{0, 0, 0, 0};
    Element e[4] = {{p.x, g.x, m.x, v.x, age.x}, {p.y, g.y, m.y, v.y, age.y}, {p.z, g.z, m.z, v.z, age.z}, {p.w, g.w, m.w, v.w, age.w}};
#pragma unroll
    for (int j = 0; j < 4; ++j) advance(u, e[j]);
    *reinterpret_cast<float4*>(u.p + i) = float4{e[0].p, e[1].p, e[2].p, e[3].p};
    *reinterpret_cast<float4*>(u.m + i) = float4{e[0].m, e[1].m, e[2].m, e[3].m};
    *reinterpret_cast<float4*>(u.v + i) = float4{e[0].v, e[1].v, e[2].v, e[3].v};
    if (u.ages) *reinterpret_cast<float4*>(u.ages + i) = float4{e[0].age, e[1].age, e[2].age, e[3].age};
    if (!u.operand) return;
    if (u.cols == u.stride) {
        *reinterpret_cast<uint2*>(u.operand + i) = uint2{pack_bf16(e[0].p, e[1].p), pack_bf16(e[2].p, e[3].p)};
    } else {
        for (int j = 0; j < 4; ++j) u.operand[operand_place(u, i + j)] = from_float<bf16>(e[j].p);
    }
}

}  // namespace

chtsl_status CHTSL_SYMBOL(adam)(float* p, const float* g, float* m, float* v, float* ages, const float* table, uint32_t table_len,
                                uint64_t len, chtsl_adam_step step, chtsl_matrix operand, int32_t version, chtsl_stream stream) {
    if (len == 0) return CHTSL_OK;
    if (!p || !g || !m || !v || (ages && (!table || table_len == 0))) return CHTSL_BAD_SHAPE;
    for (const void* x : {static_cast<const void*>(p), static_cast<const void*>(g), static_cast<const void*>(m), static_cast<const void*>(v), static_cast<const void*>(ages), static_cast<const void*>(operand.data)})
        if (!aligned_16(x)) return CHTSL_BAD_ALIGNMENT;
    if (operand.data) {
        if (operand.type != CHTSL_BF16) return CHTSL_UNSUPPORTED;
        if (uint64_t(operand.rows) * operand.cols != len || operand.stride < operand.cols) return CHTSL_BAD_SHAPE;
    }
    Update u{p, g, m, v, ages, table, table_len, size_t(len), step, data<bf16>(operand), operand.cols, operand.stride};
    uint64_t each = version == 1 ? 1 : 4, blocks = (len + each * block_threads - 1) / (each * block_threads);
    if (blocks > largest_extent) return CHTSL_TOO_LARGE;
    auto on = static_cast<cudaStream_t>(stream);
    switch (version) {
        case 1: LAUNCH(adam_naive_kernel, dim3(unsigned(blocks)), dim3(block_threads), 0, on, u); break;
        case 0:
        case 2: LAUNCH(adam_kernel, dim3(unsigned(blocks)), dim3(block_threads), 0, on, u); break;
        default: return CHTSL_UNSUPPORTED;
    }
    return launch_status();
}
