// links.cuh - where a link stands.
#pragma once
#include "common/device.cuh"
#include "types.h"

// Row of a link: the last whose offset is not above it. Rows without links are passed over.
DEVICE uint32_t row_of_link(const chtsl_links& w, uint32_t link) {
    uint32_t low = 0, high = w.rows;  // offsets[low] <= link < offsets[high]
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (w.offsets[middle] <= link) low = middle;
        else high = middle;
    }
    return low;
}
