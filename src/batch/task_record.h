// TaskRecord: the file that tells what became of one attempt at a task, whoever dies. tessd makes
// it and locks it (flock) before it starts the task's keeper, which inherits the lock and writes
// lines as things happen. So, for a tessd that starts anew: locked means that the keeper lives;
// not locked and without `ended` means that the keeper was killed; without `running`, that the
// command has not begun.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace tess::batch {

struct TaskRecord {
  pid_t keeper = 0;
  struct Command {
    pid_t pid = 0;  // also its session
    uint64_t start_time = 0;
  };
  std::optional<Command> running;  // written, and on the disk, before the command begins
  std::optional<sys::ExitStatus> ended;
  struct NotStarted {
    bool for_good = false;  // trying again will not help
    int exit_code = 0;      // what `tess run` would have said: 125, 126, 127
    std::string why;
  };
  std::optional<NotStarted> not_started;
};

// Lines that make no sense (the last may be a part of one) are passed over.
TaskRecord parse_record(const std::string& text);

std::string keeper_line(pid_t pid);
std::string running_line(const TaskRecord::Command& command);
std::string ended_line(const sys::ExitStatus& status);
std::string not_started_line(const TaskRecord::NotStarted& what);

// A new record, locked; kFailed if the file exists.
Result<sys::Fd> make_record(const std::string& path);
enum class Keeper { kAlive, kGone };
struct FoundRecord {
  Keeper keeper = Keeper::kGone;
  TaskRecord record;
};
// Signals every process of a session. True if there was one.
bool signal_session(pid_t session, int signal);
// nullopt: there is no such file.
Result<std::optional<FoundRecord>> read_record(const std::string& path);

}  // namespace tess::batch
