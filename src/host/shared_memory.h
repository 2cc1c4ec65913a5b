// Memory that bodies of the job share with each other on this host, and in the end with home: one
// SharedFile for each object at home, filled from there, given to every body that maps it. When it
// goes home and what comes from there is home's to say (docs/adr/0005). open() is called by the
// guests' threads and waits for home; what home says is done by a thread of this class, in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"
#include "memory/shared_file.h"
#include "sys/fd.h"

namespace tess::memory {
struct Mapping;
}

namespace tess::wire {
class LinkMessage;
}

namespace tess::host {

class HomeLink;

class SharedMemory {
 public:
  explicit SharedMemory(HomeLink& link);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // What process `pid` has mapped at `address` at home, filled at least as far as that mapping
  // reaches. An Error with an errno is the answer that the application gets.
  Result<sys::Fd> open(int32_t pid, uint64_t address, bool read_only);
  // The object that this mapping of the process's image means, wherever home has it mapped.
  Result<sys::Fd> open(int32_t pid, const memory::Mapping& mapping);
  // Is it one of home's messages about shared memory?
  static bool is_meant(const wire::LinkMessage& message);
  // Takes one. Any thread.
  void post(std::shared_ptr<const wire::LinkMessage> message);
  // The link is gone: whoever waits is told so.
  void close();

 private:
  Result<sys::Fd> open(int32_t pid, wire::LinkMessage& question, bool read_only);
  struct Segment {
    explicit Segment(memory::SharedFile made) : file(std::move(made)) {}
    memory::SharedFile file;
  };
  using Message = std::shared_ptr<const wire::LinkMessage>;

  Result<Message> ask(wire::LinkMessage& question, uint64_t id);
  uint64_t new_id();
  Result<std::shared_ptr<Segment>> segment_of(const wire::LinkMessage& opened);
  Result<> fetch(uint64_t number, Segment& segment, uint64_t offset, uint64_t size);
  void work();
  void handle(const wire::LinkMessage& message);
  void flush(const wire::LinkMessage& message);
  void update(const wire::LinkMessage& message);
  void refill(uint64_t number, Segment& segment, uint64_t size);
  std::shared_ptr<Segment> find(uint64_t number);

  HomeLink& link_;
  std::mutex open_mutex_;  // one open() at a time: two may want the same segment

  std::mutex content_mutex_;  // guards segments_ and what is in them
  std::map<uint64_t, std::shared_ptr<Segment>> segments_;

  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::map<uint64_t, Message> answers_;  // null: still waited for
  std::deque<Message> work_;
  uint64_t next_id_ = 1;
  bool closed_ = false;
  std::thread worker_;
};

}  // namespace tess::host
