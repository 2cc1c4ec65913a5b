#include "host/room.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "sys/files.h"

namespace tess::host {
namespace {

constexpr uint64_t kReserve = 32 << 20;  // for the agent and the page tables of the body

// The number behind `name` in a file of "name number" lines, or the whole file if name is empty.
uint64_t number_in(const std::string& path, std::string_view name, uint64_t otherwise) {
  const auto text = sys::read_file(path);
  if (!text) {
    return otherwise;
  }
  std::string_view rest = *text;
  if (!name.empty()) {
    const size_t at = rest.find(name);
    if (at == std::string_view::npos) {
      return otherwise;
    }
    rest.remove_prefix(at + name.size());
  }
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  uint64_t value = otherwise;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return error == std::errc() && end != rest.data() ? value : otherwise;
}

// What a cgroup leaves. Its page cache can be taken back, so it does not count as used.
uint64_t group_room(const std::string& dir, const char* limit, const char* usage) {
  const uint64_t most = number_in(dir + limit, "", ~uint64_t{0});
  const uint64_t used = number_in(dir + usage, "", 0);
  const uint64_t cache = number_in(dir + "/memory.stat", "inactive_file", 0);
  if (most == ~uint64_t{0}) {
    return most;
  }
  const uint64_t bound = used - std::min(used, cache);
  return most - std::min(most, bound);
}

}  // namespace

uint64_t free_memory() {
  uint64_t room = number_in("/proc/meminfo", "MemAvailable:", 0) << 10;
  const auto groups = sys::read_file("/proc/self/cgroup");
  std::string_view rest = groups ? std::string_view(*groups) : std::string_view();
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    // "5:memory:/path" (version 1) or "0::/path" (version 2)
    const size_t path_at = line.find(":/");
    if (path_at == std::string_view::npos) {
      continue;
    }
    const std::string path(line.substr(path_at + 1));
    if (line.find(":memory:") != std::string_view::npos) {
      room = std::min(room, group_room("/sys/fs/cgroup/memory" + path, "/memory.limit_in_bytes",
                                       "/memory.usage_in_bytes"));
    } else if (line.starts_with("0::")) {
      room = std::min(room, group_room("/sys/fs/cgroup" + path, "/memory.max", "/memory.current"));
    }
  }
  return room;
}

Result<> check_room(uint64_t wanted) {
  const uint64_t room = free_memory();
  if (wanted + kReserve > room) {
    return fail(ErrorKind::kNotPossible,
                "the process needs {} MiB of memory, this node has {} MiB left", (wanted >> 20) + 1,
                room >> 20);
  }
  return {};
}

}  // namespace tess::host
