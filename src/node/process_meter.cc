#include "node/process_meter.h"

#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "sys/files.h"

namespace tess::node {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// schedstat: nanoseconds on a CPU, nanoseconds waiting for one, times it was put on one.
bool add_schedstat(const std::string& path, uint64_t& ran, uint64_t& waited) {
  const auto text = sys::read_file(path);
  if (!text) {
    return false;
  }
  char* end = nullptr;
  ran += std::strtoull(text->c_str(), &end, 10);
  waited += std::strtoull(end, nullptr, 10);
  return true;
}

template <typename Each>
bool for_each_thread(pid_t pid, Each each) {
  const std::string task = "/proc/" + std::to_string(pid) + "/task";
  const std::unique_ptr<DIR, CloseDir> dir(::opendir(task.c_str()));
  if (dir == nullptr) {
    return false;
  }
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] != '.') {
      each(task + "/" + entry->d_name);
    }
  }
  return true;
}

uint64_t number_after(const std::string& text, const char* label) {
  const size_t at = text.find(label);
  return at == std::string::npos
             ? 0
             : std::strtoull(text.c_str() + at + std::strlen(label), nullptr, 10);
}

}  // namespace

std::optional<uint64_t> process_demand_ns(pid_t pid) {
  uint64_t ran = 0;
  uint64_t waited = 0;
  const bool there = for_each_thread(
      pid, [&](const std::string& thread) { add_schedstat(thread + "/schedstat", ran, waited); });
  return there ? std::optional(ran + waited) : std::nullopt;
}

std::optional<ProcessUse> process_use(pid_t pid) {
  ProcessUse use;
  const bool there = for_each_thread(pid, [&](const std::string& thread) {
    add_schedstat(thread + "/schedstat", use.ran_ns, use.waited_ns);
    if (const auto status = sys::read_file(thread + "/status")) {
      use.switches += number_after(*status, "\nvoluntary_ctxt_switches:");
    }
  });
  const std::string directory = "/proc/" + std::to_string(pid);
  const auto memory = sys::read_file(directory + "/statm");
  if (!there || !memory) {
    return std::nullopt;
  }
  char* end = nullptr;
  (void)std::strtoull(memory->c_str(), &end, 10);
  use.memory_bytes =
      std::strtoull(end, nullptr, 10) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (const auto io = sys::read_file(directory + "/io")) {
    use.calls = number_after(*io, "syscr:") + number_after(*io, "syscw:");
  }
  return use;
}

}  // namespace tess::node
