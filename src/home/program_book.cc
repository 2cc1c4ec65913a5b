#include "home/program_book.h"

#include <algorithm>

namespace tess::home {
namespace {

// A program that runs elsewhere costs some 200 ms of CPU in all: its pages, files and agents.
constexpr double kWorthAsking = 600e6;
// Of a program that nothing is known about, so many are watched at home; if more come at once it
// is the kind of job that is to be spread.
constexpr uint64_t kWatched = 2;
constexpr double kNewest = 0.3;  // the last run's share
constexpr size_t kPrograms = 4096;

}  // namespace

ProgramBook::Advice ProgramBook::begins(const std::string& program) {
  if (programs_.size() >= kPrograms && !programs_.contains(program)) {
    std::erase_if(programs_, [](const auto& item) { return item.second.begun == 0; });
  }
  Known& known = programs_[program];
  ++known.begun;
  if (known.runs > 0) {
    return {known.work_ns >= kWorthAsking, static_cast<uint64_t>(known.work_ns)};
  }
  return {known.begun > kWatched, 0};
}

void ProgramBook::ended(const std::string& program, const uint64_t* cpu_ns) {
  const auto found = programs_.find(program);
  if (found == programs_.end()) {
    return;
  }
  Known& known = found->second;
  known.begun -= std::min<uint64_t>(known.begun, 1);
  if (cpu_ns == nullptr) {
    return;
  }
  const auto took = static_cast<double>(*cpu_ns);
  known.work_ns = known.runs == 0 ? took : known.work_ns + kNewest * (took - known.work_ns);
  ++known.runs;
}

}  // namespace tess::home
