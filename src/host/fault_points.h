// Where a host agent can be made to fail (base/fault.h), each before or after it did its part of a
// migration.
#pragma once

#include <array>

namespace tess::host {

inline constexpr const char* kBeforeRestore = "host.before_restore";
inline constexpr const char* kAfterRestore = "host.after_restore";
inline constexpr const char* kBeforeAssign = "host.before_assign";
inline constexpr const char* kBeforeCommit = "host.before_commit";
inline constexpr const char* kAfterCommit = "host.after_commit";
inline constexpr const char* kBeforeFreeze = "host.before_freeze";
inline constexpr const char* kBeforeSend = "host.before_send";
inline constexpr const char* kAfterSend = "host.after_send";
inline constexpr const char* kBeforeThaw = "host.before_thaw";

inline constexpr std::array kFaultPoints{kBeforeRestore, kAfterRestore, kBeforeAssign,
                                         kBeforeCommit,  kAfterCommit,  kBeforeFreeze,
                                         kBeforeSend,    kAfterSend,    kBeforeThaw};

}  // namespace tess::host
