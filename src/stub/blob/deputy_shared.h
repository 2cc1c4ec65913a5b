// The deputy's part in shared memory: calls that see or change a file which a body of the job has
// mapped shared are made in step with that body's host, by way of the home agent (docs/adr/0005).
#pragma once

#include "stub/blob/core.h"

namespace tess::stub {

// Around one call of the application. With no shared files in the job both cost one load.
class SharedGuard {
 public:
  SharedGuard(Slot* slot, uint64_t number, const uint64_t args[6]);
  SharedGuard(const SharedGuard&) = delete;
  SharedGuard& operator=(const SharedGuard&) = delete;
  // After the call. True: it is to be made once more (what it looked at has changed since).
  bool finish(int64_t result);

 private:
  struct Range {  // of the file
    uint64_t offset;
    uint64_t size;
  };
  void see(int32_t fd, Range range = {0, kSharedAll});
  Range range_of_read() const;
  void change(int32_t fd);
  void cut(uint64_t found);
  bool changes_known_bytes() const;
  void before_path();
  void find_range(int64_t result, uint64_t* offset, uint64_t* size) const;

  Slot* slot_;
  uint64_t number_;
  const uint64_t* args_;
  uint64_t open_segment_ = 0;
  int32_t open_fd_ = -1;
  bool known_bytes_ = false;  // the call changes bytes that it says, or the file's position does
  bool cuts_ = false;         // it changes the file's length only
  bool stat_ = false;
};

// Everything that bodies have written is in home's files when this returns.
void sync_shared(Slot* slot);
// kOpMapShared: the mapping at home. `*read_only`: it cannot be made writable.
int64_t map_shared(const uint64_t args[6], uint32_t* read_only);

}  // namespace tess::stub
