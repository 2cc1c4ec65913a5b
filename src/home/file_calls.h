// What a system call of a process at home sees or changes of a file, from its registers at the
// beginning or the end of the call. Of calls with a descriptor; others name files that are not
// looked up here.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "trace/tracee.h"

namespace tess::home {

// Bytes of a file; kSharedAll, kSharedLength of stub/abi.h as size.
struct FileRange {
  uint64_t offset;
  uint64_t size;
};

// The descriptors that a call sees and changes, by the place of their arguments.
struct FileCall {
  static constexpr int kNone = -1;
  static constexpr int kResult = 6;  // what the call gives

  uint64_t number;
  int sees = kNone;
  int changes = kNone;
};

// Null: it neither sees nor changes content.
const FileCall* file_call(const trace::Registers& registers);
// One of its arguments, or of its result.
int descriptor(const trace::Registers& registers, int place);
// What it is about to look at, as far as that is easily known. `alone`: no other thread changes the
// file's position meanwhile.
FileRange range_seen(pid_t tid, const trace::Registers& registers, bool alone);
// What it has changed, at its end.
FileRange range_changed(pid_t tid, int fd, const trace::Registers& registers);
// It may wait for its other end while it has the file.
bool may_wait(pid_t pid, const trace::Registers& registers);

}  // namespace tess::home
