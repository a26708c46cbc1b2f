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

// What addr2line says of an address of this program or library, line by line. Empty where it is missing or the kernel
// was compiled without -g.
std::vector<std::string> debug_lines(const char* options, const void* address, size_t back) {
    std::vector<std::string> lines;
    Dl_info info;
    if (!address || !dladdr(address, &info)) return lines;
    size_t offset = size_t(static_cast<const char*>(address) - static_cast<const char*>(info.dli_fbase)) - back;
    std::string command = print("addr2line %s -e '%s' 0x%zx 2>/dev/null", options, info.dli_fname, offset);
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) return lines;
    char line[1024];
    while (std::fgets(line, sizeof line, pipe)) lines.emplace_back(line, std::strcspn(line, "\n"));
    pclose(pipe);
    return lines;
}

// Lines of the kernel that became the instruction before `pc`, innermost first, without the emulator's own headers.
std::string lines_of(const void* pc) {
    std::string lines;
    for (const std::string& line : debug_lines("-i", pc, 1)) {
        std::string frame = line.substr(0, line.find_first_of(" ("));
        if (frame[0] == '?' || frame.find("/emulation/include/") != std::string::npos) continue;
        lines += (lines.empty() ? "" : ", inlined at ") + base_name(frame);
        if (frame.find(".cu:") != std::string::npos) break;  // what follows is how the kernel was launched
    }
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

std::string kernel_name(const Launch& launch) {
    std::vector<std::string> lines = debug_lines("-f -C", launch.kernel, 0);
    if (lines.empty() || lines[0].find('?') != std::string::npos) return launch.name;
    std::string name = lines[0];
    const std::string unnamed = "(anonymous namespace)::";
    for (size_t at = name.find(unnamed); at != std::string::npos; at = name.find(unnamed)) name.erase(at, unnamed.size());
    if (name.rfind("void ", 0) == 0) name.erase(0, 5);
    return name.substr(0, name.find('('));
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
    std::string name = kernel_name(*w.grid->launch);
    {
        const uint3 t = w.current->thread, b = w.block;
        std::lock_guard<std::mutex> hold(w.grid->lock);
        if (w.grid->text.empty()) {
            w.grid->kind = kind;
            w.grid->text = print("%s in kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", kind, name.c_str(), b.x, b.y,
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
