// matrix.cuh - tensor cores: ldmatrix and mma.sync for bf16 (m16n8k16) and tf32 (m16n8k8).
// Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16" (and m16n8k8) and "ldmatrix". The portable bodies spread
// and gather matrices by those tables, lane by lane, so a wrong index gives wrong numbers in emulation too.
#pragma once
#include "common/bf16.cuh"
#include "common/device.cuh"

#if !defined(__CUDACC__)
namespace portable {
template <int count, bool transposed> void load_matrix(const emulation::Lanes& lanes) {
    emulation::count_matrices(count);
    for (int l = 0; l < 32; ++l)
        for (int j = 0; j < count; ++j) {
            uint16_t pair[2];
            for (int h = 0; h < 2; ++h) {
                int row = transposed ? 2 * (l % 4) + h : l / 4, column = transposed ? l / 4 : 2 * (l % 4) + h;
                pair[h] = uint16_t(lanes.in[8 * j + row][column / 2] >> 16 * (column % 2));
            }
            lanes.out[l][j] = pair[0] | unsigned(pair[1]) << 16;
        }
}

inline void mma_16x8x16(const emulation::Lanes& lanes) {
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; ++l) {
        int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; ++r) {
            int row = g + 8 * (r % 2), k = 2 * t + 8 * (r / 2);
            a[row][k] = low_bf16(lanes.in[l][r]), a[row][k + 1] = high_bf16(lanes.in[l][r]);
        }
        for (int r = 0; r < 2; ++r) {
            int k = 2 * t + 8 * r;
            b[k][g] = low_bf16(lanes.in[l][4 + r]), b[k + 1][g] = high_bf16(lanes.in[l][4 + r]);
        }
    }
    for (int l = 0; l < 32; ++l)
        for (int i = 0; i < 4; ++i) {
            int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
            float sum = __uint_as_float(lanes.in[l][6 + i]);
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            lanes.out[l][i] = __float_as_uint(sum);
        }
}

inline void mma_16x8x8(const emulation::Lanes& lanes) {
    auto tf32 = [](unsigned bits) { return __uint_as_float(bits & 0xffffe000u); };  // the low 13 bits are not read
    float a[16][8], b[8][8];
    for (int l = 0; l < 32; ++l) {
        int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; ++r) a[g + 8 * (r % 2)][t + 4 * (r / 2)] = tf32(lanes.in[l][r]);
        for (int r = 0; r < 2; ++r) b[t + 4 * r][g] = tf32(lanes.in[l][4 + r]);
    }
    for (int l = 0; l < 32; ++l)
        for (int i = 0; i < 4; ++i) {
            int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
            float sum = __uint_as_float(lanes.in[l][6 + i]);
            for (int k = 0; k < 8; ++k) sum += a[row][k] * b[k][column];
            lanes.out[l][i] = __float_as_uint(sum);
        }
}

inline void mma(const char* name, emulation::Combine combine, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                emulation::Site site) {
    unsigned in[10], out[4];
    for (int i = 0; i < 4; ++i) in[i] = a[i], in[6 + i] = __float_as_uint(d[i]);
    in[4] = b[0], in[5] = b[1];
    emulation::collective(name, combine, true, all_lanes, in, 10, out, 4, site);
    for (int i = 0; i < 4; ++i) d[i] = __uint_as_float(out[i]);
}
}  // namespace portable
#endif

// ldmatrix: loads `count` 8x8 matrices of 16-bit numbers from shared memory. Lane 8j+i gives the address of row i
// (16 bytes) of matrix j; register j of lane l receives the pair at row l/4, columns 2(l%4) and +1 of matrix j, or with
// `transposed` the pair at rows 2(l%4) and +1, column l/4. The whole warp calls it together; lanes past 8*count give any
// address.
template <int count, bool transposed> DEVICE void load_matrix(uint32_t (&r)[count], const void* row AND_SITE) {
    static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(__CUDACC__)
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    if constexpr (count == 1 && !transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
    else if constexpr (count == 1)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
    else if constexpr (count == 2 && !transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
    else if constexpr (count == 2)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
    else if constexpr (!transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
#else
    unsigned words[4];
    emulation::read_matrix_row(row, count, words, site);
    emulation::collective("ldmatrix", portable::load_matrix<count, transposed>, true, all_lanes, words, 4, r, count, site);
#endif
}

// mma.sync, d += a b. With g = lane/4 and t = lane%4, a lane holds, as bf16 pairs (k, k+1) or f32:
//   a (16x16): a[0] row g,   k 2t     a[1] row g+8, k 2t     a[2] row g, k 2t+8     a[3] row g+8, k 2t+8
//   b (16x8):  b[0] k 2t,    column g                        b[1] k 2t+8, column g
//   d (16x8):  d[0], d[1] row g, columns 2t, 2t+1            d[2], d[3] row g+8, the same columns
// Products of bf16 are exact in f32. The emulator adds them one by one, k ascending; the order on hardware is not
// specified and sums may be truncated, so results agree within a tolerance and not bit for bit.
DEVICE void mma_bf16_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] AND_SITE) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    portable::mma("mma.m16n8k16", portable::mma_16x8x16, d, a, b, site);
#endif
}

// tf32 m16n8k8, operands as f32 bit patterns: a[r] row g+8(r%2), k t+4(r/2); b[r] k t+4r, column g; d as above.
DEVICE void mma_tf32_16x8x8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] AND_SITE) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    portable::mma("mma.m16n8k8", portable::mma_16x8x8, d, a, b, site);
#endif
}

// The tf32 nearest to a finite `x`, ties away from zero, as mma_tf32_16x8x8 takes it.
DEVICE uint32_t to_tf32(float x) {
#if defined(__CUDACC__)
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#else
    return (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
#endif
}
