// The keeper of a batch task (`tess-agent task`): a small root process between tessd and the task's
// command, which outlives tessd. It becomes the submitting user in a child, asks tessd to make that
// child a job exactly as `tess run` does, and writes what happens to the task's record
// (task_record.h): nothing is told by word of mouth, so nothing is lost when tessd is.
//
// Descriptors: 3 the locked record, 4 a file with the order. SIGTERM: the task is to end; it and
// its session get SIGTERM, and SIGKILL after a while.
#pragma once

#include <string>

#include "base/result.h"
#include "batch/job_spec.h"

namespace tess::batch {

inline constexpr int kRecordFd = 3;
inline constexpr int kOrderFd = 4;

// What the keeper is to do. `spec.command` and the files are final: nothing is left to expand.
struct Order {
  JobSpec spec;
  std::string control_socket;
};
std::string encode_order(const Order& order);
Result<Order> decode_order(const std::string& text);

// Returns the exit status of the keeper.
int keep_task();

}  // namespace tess::batch
