// /proc/PID/status (proc(5)) of a process, or of one of its threads: its fields by name.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tess::sys {

class ProcStatus {
 public:
  // None if it is gone.
  static std::optional<ProcStatus> read(pid_t pid);
  static std::optional<ProcStatus> read_thread(pid_t pid, pid_t tid);

  // What follows "NAME:" and white space, to the end of the line; empty if there is no such line,
  // as of a zombie's memory.
  std::string_view field(std::string_view name) const;
  // The first number there, in that base (masks of signals are 16); 0 if there is none.
  uint64_t number(std::string_view name, int base = 10) const;
  pid_t pid_field(std::string_view name) const { return static_cast<pid_t>(number(name)); }
  // Its number, or the thread's, as it sees it itself: the last of NSpid.
  int32_t innermost_id() const;
  // "VmRSS: 4 kB" and its like.
  uint64_t bytes(std::string_view name) const { return number(name) << 10; }
  // Its letter: R, S, D, T, t, Z, X, I.
  char state() const;

 private:
  explicit ProcStatus(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace tess::sys
