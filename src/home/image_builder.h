// The image of a process that is parked in the stub at home. Worker threads; the session is the
// caller's while the process is parked.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "home/shared_object.h"
#include "memory/address_space.h"
#include "stub/session.h"

namespace tess::wire {
class ProcessImage;
}

namespace tess::home {

// `cache_dir`: where hashes of file content are kept; empty: nowhere.
Result<> build_image(pid_t pid, stub::Session& session, const std::string& cache_dir,
                     const std::set<ObjectKey>& shared, wire::ProcessImage& image);

// The private memory that a deputy can do without: all of it but the stub's region and the pages
// with its arguments and environment.
std::vector<std::pair<uint64_t, uint64_t>> discardable(const std::vector<memory::Mapping>& mappings,
                                                       uint64_t region_base, uint64_t arg_start,
                                                       uint64_t env_end);

struct ClockReading {
  int64_t monotonic_ns;
  int64_t boottime_ns;
};
ClockReading read_clocks();
// The image's time is now. To be said once more when it goes: as long as the target takes to hear
// of it the body's clocks are behind home's, and what home times by an absolute time is early.
void set_clocks(wire::ProcessImage& image);

}  // namespace tess::home
