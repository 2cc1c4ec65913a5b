// Channels that the home agent has connected to this agent: the socket comes by a raw connection,
// the keys by a ChannelOffer on the link; a channel is usable when both are there. Any thread. An
// offer that belongs to a migration (operation != 0) is only given out by its id; the others are
// spare.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/result.h"
#include "stub/abi.h"
#include "sys/fd.h"

namespace tess::host {

struct Channel {
  uint64_t id = 0;
  sys::Fd socket;
  stub::ChannelKeys keys{};  // the body's end
};

class ChannelPool {
 public:
  void add_socket(uint64_t id, sys::Fd socket);
  // Secrets of 16 bytes each. kBadInput otherwise.
  Result<> add_offer(uint64_t id, bool spare, const std::string& key_to_host,
                     const std::string& key_to_home, bool encrypted);

  // Waits for that very channel, or for any spare one. kRetry when the time is up, kDisconnected
  // once closed.
  Result<Channel> take(uint64_t id, std::chrono::milliseconds timeout);
  Result<Channel> take_spare(std::chrono::milliseconds timeout);
  void close();

 private:
  struct Entry {
    sys::Fd socket;
    bool offered = false;
    bool spare = false;
    stub::ChannelKeys keys{};
    bool complete() const { return socket.valid() && offered; }
  };
  static constexpr size_t kEntriesMax = 16384;
  template <typename Find>
  Result<Channel> wait_for(std::chrono::milliseconds timeout, Find find);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Entry> entries_;
  bool closed_ = false;
};

}  // namespace tess::host
