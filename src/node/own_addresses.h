// Where others may find this machine: its addresses that are neither loopback nor of one link only.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace tess::node {

// Numeric, IPv4 first; with `loopback` also 127.0.0.1, if there is nothing else.
Result<std::vector<std::string>> own_addresses(bool loopback);

}  // namespace tess::node
