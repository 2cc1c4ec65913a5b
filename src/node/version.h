// The version of this build, as people see it.
#pragma once

namespace tess::node {
inline constexpr const char* kVersion = TESS_VERSION;
}  // namespace tess::node
