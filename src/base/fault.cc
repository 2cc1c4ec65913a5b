#include "base/fault.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/log.h"

namespace tess {

Faults::Faults(std::string_view armed, std::string file)
    : armed_(parse(armed)), file_(std::move(file)) {}

std::vector<Faults::Armed> Faults::parse(std::string_view text) {
  std::vector<Armed> list;
  while (!text.empty()) {
    const size_t end = text.find_first_of(",\n");
    std::string_view entry = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    const size_t colon = entry.find(':');
    const std::string_view action =
        colon == std::string_view::npos ? std::string_view("fail") : entry.substr(colon + 1);
    entry = entry.substr(0, colon);
    if (entry.empty()) {
      continue;
    }
    const Action kind = action == "kill"    ? Action::kKill
                        : action == "delay" ? Action::kDelay
                                            : Action::kFail;
    list.push_back({std::string(entry), kind});
  }
  return list;
}

bool Faults::take(std::vector<Armed>& from, std::string_view point, Action& action) {
  for (auto it = from.begin(); it != from.end(); ++it) {
    if (it->point == point) {
      action = it->action;
      from.erase(it);
      return true;
    }
  }
  return false;
}

// Moves the file's entries to armed_ if one of them is for this point. Unlink decides which process
// takes it.
void Faults::take_file(std::string_view point) {
  if (file_.empty() || ::access(file_.c_str(), F_OK) != 0) {
    return;
  }
  std::ifstream in(file_);
  std::stringstream text;
  text << in.rdbuf();
  std::vector<Armed> entries = parse(text.str());
  for (const Armed& entry : entries) {
    if (entry.point == point) {
      if (::unlink(file_.c_str()) == 0) {
        armed_.insert(armed_.end(), entries.begin(), entries.end());
      }
      return;
    }
  }
}

Result<> Faults::at(std::string_view point) {
  Action action = Action::kFail;
  {
    const std::lock_guard lock(mutex_);
    take_file(point);
    if (!take(armed_, point, action)) {
      return {};
    }
  }
  log::warn("base", "event=fault point={} action={}", point,
            action == Action::kKill    ? "kill"
            : action == Action::kDelay ? "delay"
                                       : "fail");
  switch (action) {
    case Action::kKill:
      ::kill(::getpid(), SIGKILL);
      ::pause();
      break;
    case Action::kDelay:
      std::this_thread::sleep_for(std::chrono::seconds(2));
      return {};
    case Action::kFail:
      break;
  }
  return fail(ErrorKind::kFailed, "fault point {} was armed", point);
}

}  // namespace tess
