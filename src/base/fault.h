// Named fault points: `TESS_FAULT=out.after_ready:kill` (comma-separated list), or a file `fault`
// in the run directory with the same text, so that a running agent can be armed. Actions: fail
// (default; the point returns an error), kill (SIGKILL to ourselves, as a crash), delay (two
// seconds of blocking at the point, to let tests interfere). Each armed entry fires once; the file
// is removed by the process that takes it. Any thread.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tess {

class Faults {
 public:
  // Nothing armed, no file looked at.
  Faults() = default;
  // Armed from the text of TESS_FAULT; `file` empty: none is looked at.
  Faults(std::string_view armed, std::string file);
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // Fires the point if it is armed. Use: TESS_TRY(faults.at("out.after_ready"));
  Result<> at(std::string_view point);

 private:
  enum class Action { kFail, kKill, kDelay };
  struct Armed {
    std::string point;
    Action action;
  };

  static std::vector<Armed> parse(std::string_view text);
  bool take(std::vector<Armed>& from, std::string_view point, Action& action);
  void take_file(std::string_view point);

  std::mutex mutex_;  // points are reached by the loop thread and by the workers
  std::vector<Armed> armed_;
  std::string file_;
};

}  // namespace tess
