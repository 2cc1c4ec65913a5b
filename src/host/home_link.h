// The sending side of the link to the home agent. Any thread; one frame at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/result.h"
#include "net/tls_stream.h"

namespace tess::wire {
class LinkMessage;
}

namespace tess::host {

class HomeLink {
 public:
  // The one link of this agent. kNotPossible if there is one already.
  Result<> attach(std::shared_ptr<net::TlsStream> stream);
  void close();
  // A message that cannot be sent is lost, and the link with it: whoever reads from it sees the end
  // and everything here dies.
  void send(const wire::LinkMessage& message);
  void send_failed(uint64_t operation, int32_t pid, std::string_view reason);

 private:
  std::mutex mutex_;
  std::shared_ptr<net::TlsStream> stream_;
};

}  // namespace tess::host
