// Sizes as people write them.
#pragma once

#include <cstdint>
#include <string>

namespace tess {

// Bytes: "512M", "2G", "1.5K", "1048576"; units are powers of 1024. 0 if it is not a size, or none.
uint64_t parse_size(const std::string& text);

}  // namespace tess
