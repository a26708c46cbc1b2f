// Stands in for libcuda.so.1 on the host's memory. What is put on a stream runs when somebody waits for it
// and not before, which is as late as a device may be. Faults come from variables STUB_..., or from stub_...
// functions that a test calls; with -DWITHOUT_... an entry point is missing.
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_READY = 600 };
enum { ILLEGAL_ADDRESS = 700, GUARD_BYTES = 256, GUARD = 0xA5, ARBITRARY = 0xFF };
static const size_t TOTAL = (size_t)40 << 30, TAKEN_BY_OTHERS = (size_t)1 << 30;

// ---- what tests ask and order

enum { KINDS = 32, CALLS = 64 };
typedef struct {
    char name[48];
    long count;
} counter;
static counter live[KINDS], calls[CALLS];
static long misuses;
static struct {
    char name[48];
    int nth, code;
} planned;
// Held by every function; held again by those that others call.
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

static long* count_of(counter* all, int size, const char* name) {
    int i = 0;
    while (all[i].name[0] && strcmp(all[i].name, name)) {
        if (++i == size) abort();
    }
    strcpy(all[i].name, name);
    return &all[i].count;
}

// Objects of a kind that exist.
long stub_live(const char* kind) { return *count_of(live, KINDS, kind); }
// Objects of all kinds.
long stub_live_in_all(void) {
    long all = 0;
    for (int i = 0; i < KINDS; i++) {
        if (live[i].count) fprintf(stderr, "left: %ld %s\n", live[i].count, live[i].name);
        all += labs(live[i].count);
    }
    return all;
}
long stub_calls(const char* name) { return *count_of(calls, CALLS, name); }
// Calls that a driver would answer with anything, or with a crash.
long stub_misuses(void) { return misuses; }
// The nth call of a function from now on fails with a code.
void stub_fail(const char* name, int nth, int code) {
    strcpy(planned.name, name);
    planned.nth = nth;
    planned.code = code;
}
// Whether that has not happened yet.
int stub_failure_is_planned(void) { return planned.nth > 0; }

// For cuBLASLt's stand-in.
void stub_lives(const char* kind, int change) {
    pthread_mutex_lock(&lock);
    *count_of(live, KINDS, kind) += change;
    leave(0);
}
int stub_misuse(const char* what, int code) {
    pthread_mutex_lock(&lock);
    fprintf(stderr, "misuse: %s\n", what);
    misuses++;
    return leave(code);
}
int stub_planned(const char* name) {
    pthread_mutex_lock(&lock);
    ++*count_of(calls, CALLS, name);
    if (planned.nth < 1 || strcmp(planned.name, name) || --planned.nth) return leave(0);
    return leave(planned.code);
}

// ---- the context, memory

static int primary, sticky;
static __thread void* current;

static int number(const char* name, int usual) {
    const char* asked = getenv(name);
    return asked ? atoi(asked) : usual;
}

// 0 when a call may go on: a context is current and healthy, and no failure is planned.
int stub_enter(const char* name) {
    int code = stub_planned(name);
    if (code) return code;
    if (current != &primary) return stub_misuse(name, INVALID_CONTEXT);
    pthread_mutex_lock(&lock);
    return leave(sticky);
}

typedef struct allocation {
    struct allocation* next;
    char* memory;
    size_t bytes;
} allocation;
static allocation* allocations;
static size_t used;

// Whether a range lies in one allocation.
int stub_holds(const void* pointer, size_t bytes) {
    const char* p = pointer;
    for (allocation* a = allocations; a; a = a->next) {
        if (p >= a->memory && p + bytes <= a->memory + a->bytes) return 1;
    }
    return 0;
}

// ---- streams and what is on them

typedef int (*work)(void* argument);
typedef struct operation {
    struct operation* next;
    work run;
    max_align_t argument[];
} operation;
typedef struct {
    operation *first, **last;
} stream;
typedef struct {
    long at;
} event;
static stream* only_stream;
static long clock_ticks;

// Puts work on a stream; the argument is copied. The work answers with an error that stays.
void stub_enqueue(void* on, work run, const void* argument, size_t bytes) {
    stream* s = on;
    if (!s || s != only_stream) {
        stub_misuse("work on no stream", 0);
        return;
    }
    operation* o = malloc(sizeof(operation) + bytes);
    o->next = 0;
    o->run = run;
    memcpy(o->argument, argument, bytes);
    pthread_mutex_lock(&lock);
    *s->last = o;
    s->last = &o->next;
    leave(0);
}

static int drain(stream* s) {
    while (s->first) {
        operation* o = s->first;
        s->first = o->next;
        if (!s->first) s->last = &s->first;
        if (!sticky) sticky = o->run(o->argument);
        free(o);
    }
    return sticky;
}

static int fault(void* code) { return *(int*)code; }
// A kernel that ends in an error, which the device notices when it gets there.
void stub_launch(void* on, int code) { stub_enqueue(on, fault, &code, sizeof(code)); }
// The device gets there, and nobody waits for it.
void stub_run(void* on) { drain(on); }
// Another process, as it were: the error that stayed is gone.
void stub_start_again(void) { sticky = 0; }

typedef struct {
    char* to;
    const char* from;
    size_t bytes;
    unsigned char value;
    char* staged;
} transfer;

static int to_device(void* argument) {
    transfer* t = argument;
    if (!stub_holds(t->to, t->bytes)) return ILLEGAL_ADDRESS;
    memcpy(t->to, t->from, t->bytes);
    free(t->staged);
    clock_ticks++;
    return 0;
}
static int to_host(void* argument) {
    transfer* t = argument;
    if (!stub_holds(t->from, t->bytes)) return ILLEGAL_ADDRESS;
    memcpy(t->to, t->from, t->bytes);
    clock_ticks++;
    return 0;
}
static int within(void* argument) {
    transfer* t = argument;
    if (!stub_holds(t->from, t->bytes)) return ILLEGAL_ADDRESS;
    return to_device(argument);
}
static int set(void* argument) {
    transfer* t = argument;
    if (!stub_holds(t->to, t->bytes)) return ILLEGAL_ADDRESS;
    memset(t->to, t->value, t->bytes);
    clock_ticks++;
    return 0;
}
static int stamp(void* argument) {
    (*(event**)argument)->at = clock_ticks;
    return 0;
}

// Every entry point runs alone.
#define ALONE(call)                \
    {                              \
        pthread_mutex_lock(&lock); \
        return leave(call);        \
    }

// ---- the driver's interface: start and device

int cuDriverGetVersion(int* version) {
    *version = number("STUB_DRIVER", 13000);
    return number("STUB_VERSION", 0);
}
int cuInit(unsigned flags) { return number("STUB_INIT", 0); }
int cuDeviceGetCount(int* count) {
    *count = number("STUB_DEVICES", 1);
    return 0;
}
int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
    snprintf(name, size, "Stub A100");
    return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    *bytes = (size_t)40 << 30;
    return 0;
}
int cuDeviceGetAttribute(int* value, int which, int device) {
    int capability = number("STUB_CAPABILITY", 80);
    switch (which) {
        case 16: *value = 108; return 0;
        case 75: *value = capability / 10; return 0;
        case 76: *value = capability % 10; return 0;
        case 100: *value = number("STUB_HOST_PAGE_TABLES", 0); return 0;
        default: return INVALID_VALUE;
    }
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    int code = number("STUB_RETAIN", 0);
    if (code) return code;
    *context = &primary;
    stub_lives("contexts", 1);
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    stub_lives("contexts", -1);
    return 0;
}
int cuCtxSetCurrent(void* context) {
    if (context && context != &primary) return stub_misuse("cuCtxSetCurrent", INVALID_CONTEXT);
    current = context;
    return 0;
}

// ---- memory

#ifndef WITHOUT_MEMORY
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    int code = stub_enter("cuMemGetInfo_v2");
    if (code) return code;
    *total = TOTAL;
    *free = TOTAL - TAKEN_BY_OTHERS - used;
    return number("STUB_MEMORY", 0);
}
#endif

static int allocate(char** pointer, size_t bytes) {
    int code = stub_enter("cuMemAlloc_v2");
    if (code) return code;
    if (!bytes) return stub_misuse("cuMemAlloc_v2 of nothing", INVALID_VALUE);
    if (bytes > TOTAL - TAKEN_BY_OTHERS - used) return OUT_OF_MEMORY;
    allocation* a = malloc(sizeof(allocation));
    size_t whole = (bytes + GUARD_BYTES + 255) / 256 * 256;
    *a = (allocation){allocations, aligned_alloc(256, whole), bytes};
    memset(a->memory, ARBITRARY, bytes);
    memset(a->memory + bytes, GUARD, whole - bytes);
    allocations = a;
    used += bytes;
    stub_lives("allocations", 1);
    *pointer = a->memory;
    return 0;
}
int cuMemAlloc_v2(char** pointer, size_t bytes) ALONE(allocate(pointer, bytes))

static int release(char* pointer) {
    int code = stub_enter("cuMemFree_v2");
    if (code && code != sticky) return code;
    // Waits for work that uses the memory.
    if (only_stream) drain(only_stream);
    for (allocation** at = &allocations; *at; at = &(*at)->next) {
        allocation* a = *at;
        if (a->memory != pointer) continue;
        for (int i = 0; i < GUARD_BYTES; i++) {
            if ((unsigned char)a->memory[a->bytes + i] != GUARD) stub_misuse("write beyond the end", 0);
        }
        *at = a->next;
        used -= a->bytes;
        stub_lives("allocations", -1);
        free(a->memory);
        free(a);
        return code;
    }
    return stub_misuse("cuMemFree_v2", INVALID_VALUE);
}
int cuMemFree_v2(char* pointer) ALONE(release(pointer))

// Pageable memory is staged before the call returns, unless the device reads it where it lies.
static int upload(char* to, const void* from, size_t bytes, void* on) {
    int code = stub_enter("cuMemcpyHtoDAsync_v2");
    if (code) return code;
    transfer t = {to, from, bytes};
    if (!number("STUB_HOST_PAGE_TABLES", 0)) t.from = t.staged = memcpy(malloc(bytes), from, bytes);
    stub_enqueue(on, to_device, &t, sizeof(t));
    return 0;
}
int cuMemcpyHtoDAsync_v2(char* to, const void* from, size_t bytes, void* on)
    ALONE(upload(to, from, bytes, on))

static int transfers(const char* name, work run, transfer t, void* on) {
    int code = stub_enter(name);
    if (!code) stub_enqueue(on, run, &t, sizeof(t));
    return code;
}
int cuMemcpyDtoHAsync_v2(void* to, const char* from, size_t bytes, void* on)
    ALONE(transfers("cuMemcpyDtoHAsync_v2", to_host, ((transfer){to, from, bytes}), on))
int cuMemcpyDtoDAsync_v2(char* to, const char* from, size_t bytes, void* on)
    ALONE(transfers("cuMemcpyDtoDAsync_v2", within, ((transfer){to, from, bytes}), on))
int cuMemsetD8Async(char* to, unsigned char value, size_t bytes, void* on)
    ALONE(transfers("cuMemsetD8Async", set, ((transfer){to, 0, bytes, value}), on))

// ---- streams and events

static int make_stream(void** made) {
    int code = stub_enter("cuStreamCreate");
    if (code) return code;
    if (only_stream) return stub_misuse("a second stream", INVALID_VALUE);
    only_stream = calloc(1, sizeof(stream));
    only_stream->last = &only_stream->first;
    stub_lives("streams", 1);
    *made = only_stream;
    return 0;
}
#ifndef WITHOUT_STREAMS
int cuStreamCreate(void** made, unsigned flags) ALONE(make_stream(made))
#endif

static int destroy_stream(void* s) {
    int code = stub_enter("cuStreamDestroy_v2");
    if (code && code != sticky) return code;
    if (s != only_stream) return stub_misuse("cuStreamDestroy_v2", INVALID_HANDLE);
    drain(s);
    free(s);
    only_stream = 0;
    stub_lives("streams", -1);
    return code;
}
int cuStreamDestroy_v2(void* s) ALONE(destroy_stream(s))

static int wait_for(void* s) {
    int code = stub_enter("cuStreamSynchronize");
    return code ? code : drain(s);
}
int cuStreamSynchronize(void* s) ALONE(wait_for(s))

static int make_event(event** made) {
    int code = stub_enter("cuEventCreate");
    if (code) return code;
    *made = malloc(sizeof(event));
    (*made)->at = -1;
    stub_lives("events", 1);
    return 0;
}
int cuEventCreate(event** made, unsigned flags) ALONE(make_event(made))

static int record(event* e, void* on) {
    int code = stub_enter("cuEventRecord");
    if (!code) stub_enqueue(on, stamp, &e, sizeof(e));
    return code;
}
int cuEventRecord(event* e, void* on) ALONE(record(e, on))

// Every operation takes one millisecond.
static int elapsed(float* milliseconds, event* from, event* to) {
    int code = stub_enter("cuEventElapsedTime");
    if (code) return code;
    if (from->at < 0 || to->at < 0) return stub_misuse("cuEventElapsedTime", NOT_READY);
    *milliseconds = to->at - from->at;
    return 0;
}
int cuEventElapsedTime(float* milliseconds, event* from, event* to) ALONE(elapsed(milliseconds, from, to))

static int destroy_event(event* e) {
    int code = stub_enter("cuEventDestroy_v2");
    if (code && code != sticky) return code;
    // Its time may not have come yet.
    if (only_stream) drain(only_stream);
    free(e);
    stub_lives("events", -1);
    return code;
}
int cuEventDestroy_v2(event* e) ALONE(destroy_event(e))

// ---- errors in words

int cuGetErrorName(int code, const char** text) {
    *text = code == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == 100             ? "CUDA_ERROR_NO_DEVICE"
            : code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                      : 0;
    return *text ? 0 : INVALID_VALUE;
}
int cuGetErrorString(int code, const char** text) {
    *text = code == OUT_OF_MEMORY     ? "out of memory"
            : code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                      : 0;
    return *text ? 0 : INVALID_VALUE;
}
