// faults.cpp - see faults.h.
#include "faults.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <dlfcn.h>
#include "worker.h"

namespace emulation {
namespace {
std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Lines of the kernel that became the instruction before `pc`, innermost first, without the emulator's own headers.
// Empty where addr2line is missing or the kernel was compiled without -g.
std::string lines_of(const void* pc) {
    Dl_info info;
    if (!pc || !dladdr(pc, &info)) return "";
    size_t offset = size_t(static_cast<const char*>(pc) - static_cast<const char*>(info.dli_fbase)) - 1;
    std::string command = print("addr2line -i -e '%s' 0x%zx 2>/dev/null", info.dli_fname, offset), lines;
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return "";
    char line[512];
    bool kernel = false;  // the .cu file has been reached; what follows is how it was launched
    while (std::fgets(line, sizeof line, pipe)) {
        std::string frame(line, std::strcspn(line, " \n("));
        if (kernel || frame[0] == '?' || frame.find("/emulation/include/") != std::string::npos) continue;
        kernel = frame.find(".cu:") != std::string::npos;
        lines += (lines.empty() ? "" : ", inlined at ") + base_name(frame);
    }
    pclose(pipe);
    return lines;
}
}  // namespace

std::string text(const Place& place) {
    // A stalled block asks for every thread, and mostly for the same few places.
    thread_local std::map<const void*, std::string> known;
    auto [found, missing] = known.try_emplace(place.pc);
    if (missing) found->second = lines_of(place.pc);
    const std::string& lines = found->second;
    if (!place.site) return lines.empty() ? print("address %p", place.pc) : lines;
    std::string site = print("%s:%d", base_name(place.site->file).c_str(), place.site->line);
    return lines.rfind(site, 0) == 0 ? lines : lines.empty() ? site : site + ", inlined at " + lines;
}

std::string print(const char* format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return text;
}

Faults& faults() {
    thread_local Faults mine;
    return mine;
}

void report(cudaError_t error, std::string kind, std::string text) {
    faults() = {std::move(kind), std::move(text), error};
}

void raise(const char* kind, const std::string& what) {
    Worker& w = *worker;
    {
        const uint3 t = w.current->thread, b = w.block;
        std::lock_guard<std::mutex> hold(w.grid->lock);
        if (w.grid->text.empty()) {
            w.grid->kind = kind;
            w.grid->text = print("%s in kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", kind, w.grid->launch->name, b.x, b.y,
                                 b.z, t.x, t.y, t.z) + what;
        }
    }
    w.grid->stop = true;
    w.trusted = false;
    Fiber* self = w.current;
    w.current = nullptr;
    swap(self->context, w.main);
    std::abort();
}

void fault(const char* kind, Site site, const char* what) {
    raise(kind, print("%s at ", what) + text({&site, __builtin_return_address(0)}));
}
}  // namespace emulation
