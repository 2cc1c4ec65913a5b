// CPU time and memory of children that have ended, beyond what home's kernel counts (they used it
// on hosts), for a parent that is at home: what a wait4 or waitid of it says of such a child is
// corrected at the end of the call. Main thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

#include "stub/abi.h"
#include "stub/session.h"
#include "trace/tracee.h"

namespace tess::home {

class ReapedChildren {
 public:
  using Child = stub::ControlBlock::EndedChild;

  // The child has ended and not been waited for yet.
  void expect(const Child& child);
  // A call of the parent has ended. True: there is no child left to be told of, or so many calls
  // have been made that the parent seems to wait for none.
  bool call_ended(pid_t parent, const trace::Registers& registers);

 private:
  void correct(const trace::Registers& registers, const stub::RemoteMemory& memory);

  std::map<int32_t, Child> expected_;
  unsigned calls_ = 0;  // since the last child
};

}  // namespace tess::home
