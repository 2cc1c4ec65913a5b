#include "batch/task_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>
#include <utility>

#include "sys/files.h"

namespace tess::batch {

TaskRecord parse_record(const std::string& text) {
  TaskRecord record;
  for (size_t start = 0;;) {
    const size_t end = text.find('\n', start);
    if (end == std::string::npos) {
      return record;
    }
    std::istringstream line(text.substr(start, end - start));
    start = end + 1;
    std::string word;
    line >> word;
    if (word == "keeper") {
      line >> record.keeper;
    } else if (TaskRecord::Command command; word == "running") {
      if (line >> command.pid >> command.start_time && command.pid > 1) {
        record.running = command;
      }
    } else if (word == "ended") {
      std::string how;
      sys::ExitStatus status;
      if (line >> how >> status.value && (how == "exited" || how == "signaled")) {
        status.kind = how == "exited" ? sys::ExitStatus::kExited : sys::ExitStatus::kSignaled;
        record.ended = status;
      }
    } else if (word == "not-started") {
      std::string when;
      TaskRecord::NotStarted what;
      if (line >> when >> what.exit_code) {
        what.for_good = when == "for-good";
        std::getline(line >> std::ws, what.why);
        record.not_started = what;
      }
    }
  }
}

std::string keeper_line(pid_t pid) {
  return fmt::format("keeper {}\n", pid);
}

std::string running_line(const TaskRecord::Command& command) {
  return fmt::format("running {} {}\n", command.pid, command.start_time);
}

std::string ended_line(const sys::ExitStatus& status) {
  const bool exited = status.kind == sys::ExitStatus::kExited;
  return fmt::format("ended {} {}\n", exited ? "exited" : "signaled", status.value);
}

std::string not_started_line(const TaskRecord::NotStarted& what) {
  std::string why = what.why;
  std::replace(why.begin(), why.end(), '\n', ' ');
  return fmt::format("not-started {} {} {}\n", what.for_good ? "for-good" : "now", what.exit_code,
                     why);
}

Result<sys::Fd> make_record(const std::string& path) {
  sys::Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return fail_errno("make {}", path);
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail_errno("lock {}", path);
  }
  return fd;
}

// A process that forks meanwhile may be missed, so it is looked again until nobody new is found.
bool signal_session(pid_t session, int signal) {
  std::set<pid_t> told;
  for (bool found = true; std::exchange(found, false);) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
      const std::string name = entry.path().filename();
      const pid_t pid = static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10));
      if (pid > 1 && ::getsid(pid) == session && told.insert(pid).second) {
        found = true;
        if (const auto process = sys::Process::open(pid); process && ::getsid(pid) == session) {
          (void)process->signal(signal);
        }
      }
    }
  }
  return !told.empty();
}

Result<std::optional<FoundRecord>> read_record(const std::string& path) {
  const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) {
      return std::nullopt;
    }
    return fail_errno("open {}", path);
  }
  FoundRecord found;
  // The lock first: a keeper that ends in between has written everything before.
  if (::flock(fd.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return fail_errno("lock {}", path);
    }
    found.keeper = Keeper::kAlive;
  }
  TESS_TRY_ASSIGN(const std::string text, sys::read_to_end(fd));
  found.record = parse_record(text);
  return found;
}

}  // namespace tess::batch
