// Who comes in at the agent's listening socket: a TLS connection (link or stream) after its
// AgentHello, or a raw channel after its 48-byte preamble. Everything without the job's token is
// closed without a word. Sockets are watched on the loop; TLS handshakes block on a thread of their
// own, a few at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "net/loop.h"
#include "net/tls_stream.h"
#include "sys/fd.h"

namespace tess::wire {
class AgentHello;
}

namespace tess::host {

class Door {
 public:
  struct Handlers {
    // On the loop's thread.
    std::function<void(uint64_t id, sys::Fd socket)> channel;
    std::function<void(std::unique_ptr<net::TlsStream>, const wire::AgentHello&)> tls;
  };
  Door(net::Loop& loop, sys::Fd listener, const net::TlsContext& tls, uint64_t job,
       std::string token, Handlers handlers);
  ~Door();
  void close();

 private:
  struct Visitor {
    explicit Visitor(net::Loop& loop) : deadline(loop) {}
    sys::Fd socket;
    std::unique_ptr<net::FdWatch> watch;
    net::Timer deadline;
  };
  using Visitors = std::list<std::unique_ptr<Visitor>>;

  void accept_all();
  void look_at(Visitor* visitor);
  void drop(Visitor* visitor);
  void shake_hands(sys::Fd socket);

  net::Loop& loop_;
  sys::Fd listener_;
  const net::TlsContext tls_;
  const uint64_t job_;
  const std::string token_;
  const Handlers handlers_;
  std::unique_ptr<net::FdWatch> watch_;
  Visitors visitors_;
  // Counts handshakes in progress; shared so that a thread that outlives the door finds nobody to
  // report to.
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace tess::host
