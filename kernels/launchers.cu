// launchers.cu - the table of include/launchers.h.
#include "launchers.h"

#define CHTSL_ENTRY(name) CHTSL_SYMBOL(name),
const chtsl_launcher_table* CHTSL_SYMBOL(launchers)(void) {
    static const chtsl_launcher_table table = {CHTSL_FOR_EACH_LAUNCHER(CHTSL_ENTRY)};
    return &table;
}
