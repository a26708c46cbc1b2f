// launchers.cu - the table of include/launchers.h.
#include "launchers.h"

#define CHTSL_ENTRY(name) CHTSL_SYMBOL(name),
const chtsl_launchers* CHTSL_SYMBOL(launchers)(void) {
    static const chtsl_launchers table = {CHTSL_FOR_EACH_LAUNCHER(CHTSL_ENTRY)};
    return &table;
}
