// Stands in for libcublasLt on the memory of stub_cuda.c: column-major products as NVIDIA's documentation
// of cublasLtMatmul describes them, and refusal of whatever it forbids. -DCUBLASLT is the major version of
// its CUDA; with -DWITHOUT_MATMUL an entry point is missing.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void stub_lives(const char* kind, int change);
int stub_misuse(const char* what, int code);
int stub_planned(const char* name);
int stub_enter(const char* name);
int stub_holds(const void* pointer, size_t bytes);
void stub_enqueue(void* on, int (*run)(void*), const void* argument, size_t bytes);

enum { NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68 };
enum { DESC_TRANSA = 3, DESC_TRANSB = 4, OP_N = 0, OP_T = 1 };
enum { PREF_WORKSPACE = 1, PREF_REDUCTION = 3, PREF_ALIGNMENT_A = 5, PREF_ALIGNMENT_D = 8 };
enum { REDUCE_IN_OUTPUT_TYPE = 4, REDUCE_ANY = 7 };
// Answers that tests plan for the heuristic beside error codes.
enum { ANSWERS_WITH_NOTHING = -1, ANSWERS_WITH_A_FAILURE = -2 };

// ---- objects: each knows what it is, so that a wrong or dead one is noticed

typedef struct {
    const char* kind;
} object;
static const char HANDLE[] = "handles", DESC[] = "descriptors", LAYOUT[] = "layouts",
                  PREFERENCE[] = "preferences";

typedef struct {
    object is;
    int transposed[2];
} descriptor;
typedef struct {
    object is;
    int type;
    uint64_t rows, cols;
    int64_t ld;
} layout;
typedef struct {
    object is;
    uint64_t workspace;
    uint32_t reduction, alignment[4];
} preference;
// What the heuristic hands out: 64 bytes that only this library understands.
typedef struct {
    uint64_t magic, workspace;
    uint32_t reduction, alignment[4], unused[7];
} algorithm;
_Static_assert(sizeof(algorithm) == 64, "cublasLtMatmulAlgo_t");
static const uint64_t MAGIC = 0x5ab1e5a1ad;

typedef struct {
    algorithm algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} heuristic;

static void* make(const char* kind, size_t bytes) {
    object* o = calloc(1, bytes);
    o->kind = kind;
    stub_lives(kind, 1);
    return o;
}
// Dead objects keep their memory, so that a second end is noticed.
static int end(void* o, const char* kind) {
    if (!o || ((object*)o)->kind != kind) return stub_misuse("the end of what is not there", INVALID_VALUE);
    ((object*)o)->kind = 0;
    stub_lives(kind, -1);
    return 0;
}
static int is(const void* o, const char* kind) { return o && ((const object*)o)->kind == kind; }

size_t cublasLtGetVersion(void) { return CUBLASLT * 10000 + 300; }
size_t cublasLtGetCudartVersion(void) { return CUBLASLT * 1000; }

int cublasLtCreate(void** made) {
    int code = stub_enter("cublasLtCreate");
    if (code) return code;
    *made = make(HANDLE, sizeof(object));
    return 0;
}
int cublasLtDestroy(void* o) {
    stub_enter("cublasLtDestroy");
    return end(o, HANDLE);
}
int cublasLtMatmulDescCreate(void** made, int compute, int scale) {
    int code = stub_planned("cublasLtMatmulDescCreate");
    if (code) return code;
    if (compute != COMPUTE_32F || scale != R_32F) return stub_misuse("sums not in f32", INVALID_VALUE);
    *made = make(DESC, sizeof(descriptor));
    return 0;
}
int cublasLtMatmulDescDestroy(void* o) { return end(o, DESC); }
int cublasLtMatmulDescSetAttribute(void* o, int which, const void* value, size_t bytes) {
    int code = stub_planned("cublasLtMatmulDescSetAttribute");
    if (code) return code;
    int32_t operation;
    if (!is(o, DESC) || bytes != 4 || (which != DESC_TRANSA && which != DESC_TRANSB)) {
        return stub_misuse("cublasLtMatmulDescSetAttribute", INVALID_VALUE);
    }
    memcpy(&operation, value, 4);
    if (operation != OP_N && operation != OP_T) return stub_misuse("an operation", INVALID_VALUE);
    ((descriptor*)o)->transposed[which - DESC_TRANSA] = operation == OP_T;
    return 0;
}
int cublasLtMatrixLayoutCreate(void** made, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    int code = stub_planned("cublasLtMatrixLayoutCreate");
    if (code) return code;
    layout* l = make(LAYOUT, sizeof(layout));
    l->type = type;
    l->rows = rows;
    l->cols = cols;
    l->ld = ld;
    *made = l;
    return 0;
}
int cublasLtMatrixLayoutDestroy(void* o) { return end(o, LAYOUT); }
int cublasLtMatmulPreferenceCreate(void** made) {
    int code = stub_planned("cublasLtMatmulPreferenceCreate");
    if (code) return code;
    preference* p = make(PREFERENCE, sizeof(preference));
    p->reduction = REDUCE_ANY;
    for (int i = 0; i < 4; i++) p->alignment[i] = 256;
    *made = p;
    return 0;
}
int cublasLtMatmulPreferenceDestroy(void* o) { return end(o, PREFERENCE); }
int cublasLtMatmulPreferenceSetAttribute(void* o, int which, const void* value, size_t bytes) {
    int code = stub_planned("cublasLtMatmulPreferenceSetAttribute");
    if (code) return code;
    preference* p = o;
    void* field = which == PREF_WORKSPACE   ? (void*)&p->workspace
                  : which == PREF_REDUCTION ? (void*)&p->reduction
                  : which >= PREF_ALIGNMENT_A && which <= PREF_ALIGNMENT_D
                      ? (void*)&p->alignment[which - PREF_ALIGNMENT_A]
                      : 0;
    if (!is(o, PREFERENCE) || !field || bytes != (which == PREF_WORKSPACE ? 8 : 4)) {
        return stub_misuse("cublasLtMatmulPreferenceSetAttribute", INVALID_VALUE);
    }
    memcpy(field, value, bytes);
    return 0;
}

// ---- products

static size_t size_of(int type) { return type == R_16BF ? 2 : 4; }
static size_t extent(const layout* l) { return ((l->cols - 1) * l->ld + l->rows) * size_of(l->type); }

// 0 when D = alpha op(A) op(B) + beta C is a product that the library has.
static int refused(const descriptor* d, const layout* a, const layout* b, const layout* c, const layout* e) {
    if (!is(d, DESC) || !is(a, LAYOUT) || !is(b, LAYOUT) || !is(c, LAYOUT) || !is(e, LAYOUT)) {
        return stub_misuse("a product of what is not there", INVALID_VALUE);
    }
    const layout* all[] = {a, b, c, e};
    for (int i = 0; i < 4; i++) {
        if (!all[i]->rows || !all[i]->cols || all[i]->ld < (int64_t)all[i]->rows) return INVALID_VALUE;
        if (all[i]->type != R_32F && all[i]->type != R_16BF) return NOT_SUPPORTED;
    }
    uint64_t m = d->transposed[0] ? a->cols : a->rows, k = d->transposed[0] ? a->rows : a->cols;
    uint64_t l = d->transposed[1] ? b->cols : b->rows, n = d->transposed[1] ? b->rows : b->cols;
    if (k != l || m != e->rows || n != e->cols || c->rows != m || c->cols != n) return INVALID_VALUE;
    int inputs_are_f32 = a->type == R_32F;
    if (a->type != b->type || c->type != e->type || (inputs_are_f32 && c->type != R_32F)) return NOT_SUPPORTED;
    return 0;
}

// The algorithm uses all that the preference grants, so that a promise that is not kept is noticed.
int cublasLtMatmulAlgoGetHeuristic(void* handle, void* d, void* a, void* b, void* c, void* e, void* wanted,
                                   int asked, heuristic* results, int* count) {
    int code = stub_planned("cublasLtMatmulAlgoGetHeuristic");
    *count = 0;
    if (code == ANSWERS_WITH_NOTHING) return 0;
    if (code > 0) return code;
    if (!is(handle, HANDLE) || !is(wanted, PREFERENCE) || asked < 1) {
        return stub_misuse("cublasLtMatmulAlgoGetHeuristic", INVALID_VALUE);
    }
    int no = refused(d, a, b, c, e);
    if (no) return no;
    const preference* p = wanted;
    memset(results, 0, sizeof(*results));
    algorithm chosen = {MAGIC, p->workspace, p->reduction};
    memcpy(chosen.alignment, p->alignment, sizeof(chosen.alignment));
    results->workspace = p->workspace;
    if (code == ANSWERS_WITH_A_FAILURE) {
        results->state = NOT_SUPPORTED;
    } else {
        results->algo = chosen;
    }
    *count = 1;
    return 0;
}

static float load(const char* data, int type, size_t i) {
    if (type == R_32F) return ((const float*)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t*)data)[i] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static float rounded(float x, int type) {
    uint16_t narrow = to_bf16(x);
    return type == R_32F ? x : load((const char*)&narrow, R_16BF, 0);
}
static void store(char* data, int type, size_t i, float x) {
    if (type == R_32F) {
        ((float*)data)[i] = x;
    } else {
        ((uint16_t*)data)[i] = to_bf16(x);
    }
}

// Descriptors may end, and factors change, before the product runs.
typedef struct {
    int transposed[2];
    float alpha, beta;
    const char *a, *b, *c;
    char *d, *workspace;
    layout of_a, of_b, of_c, of_d;
    algorithm algo;
} product;

static int multiply(void* argument) {
    const product* p = argument;
    const layout *a = &p->of_a, *b = &p->of_b, *c = &p->of_c, *d = &p->of_d;
    if (!stub_holds(p->a, extent(a)) || !stub_holds(p->b, extent(b)) || !stub_holds(p->d, extent(d)) ||
        (p->beta != 0 && !stub_holds(p->c, extent(c))) || !stub_holds(p->workspace, p->algo.workspace)) {
        return 700;
    }
    memset(p->workspace, 0xEE, p->algo.workspace);
    uint64_t terms = p->transposed[0] ? a->rows : a->cols;
    for (uint64_t j = 0; j < d->cols; j++) {
        for (uint64_t i = 0; i < d->rows; i++) {
            // Two parts of the sum, as a split over k makes them.
            float part[2] = {0, 0};
            for (uint64_t l = 0; l < terms; l++) {
                float x = load(p->a, a->type, p->transposed[0] ? l + i * a->ld : i + l * a->ld);
                float y = load(p->b, b->type, p->transposed[1] ? j + l * b->ld : l + j * b->ld);
                part[l % 2] += x * y;
            }
            if (p->algo.reduction & REDUCE_IN_OUTPUT_TYPE) {
                part[0] = rounded(part[0], d->type);
                part[1] = rounded(part[1], d->type);
            }
            float old = p->beta != 0 ? p->beta * load(p->c, c->type, i + j * c->ld) : 0;
            store(p->d, d->type, i + j * d->ld, p->alpha * (part[0] + part[1]) + old);
        }
    }
    return 0;
}

#ifndef WITHOUT_MATMUL
int cublasLtMatmul(void* handle, void* desc, const float* alpha, const void* a, void* of_a, const void* b,
                   void* of_b, const float* beta, const void* c, void* of_c, void* d, void* of_d,
                   const algorithm* algo, void* workspace, size_t bytes, void* on) {
    int code = stub_enter("cublasLtMatmul");
    // The driver's codes mean nothing here: whatever the device ran into is this.
    if (code >= 100 && code < 1000) return EXECUTION_FAILED;
    if (code) return code;
    if (!is(handle, HANDLE) || !algo || algo->magic != MAGIC) return stub_misuse("cublasLtMatmul", INVALID_VALUE);
    int no = refused(desc, of_a, of_b, of_c, of_d);
    if (no) return stub_misuse("another product than was set up", no);
    const void* operands[] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        if ((uintptr_t)operands[i] % algo->alignment[i]) {
            return stub_misuse("less alignment than was promised", INVALID_VALUE);
        }
    }
    if (bytes < algo->workspace || (bytes && (uintptr_t)workspace % 256)) {
        return stub_misuse("less workspace than was promised", INVALID_VALUE);
    }
    if (c == d && memcmp(of_c, of_d, sizeof(layout))) return stub_misuse("C and D in one place", INVALID_VALUE);
    const descriptor* how = desc;
    product p = {{how->transposed[0], how->transposed[1]}, *alpha, *beta, a, b, c, d, workspace};
    p.of_a = *(layout*)of_a;
    p.of_b = *(layout*)of_b;
    p.of_c = *(layout*)of_c;
    p.of_d = *(layout*)of_d;
    p.algo = *algo;
    stub_enqueue(on, multiply, &p, sizeof(p));
    return 0;
}
#endif
