// MetricsServer: answers `GET /metrics` over plain HTTP at one address (`metrics` in tessera.toml).
// It takes no other request, holds few connections, each for a few seconds, and says nothing that
// a neighbour on the network may not know. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/connection.h"
#include "net/loop.h"
#include "net/tcp.h"

namespace tess::node {

class MetricsServer {
 public:
  using Text = std::function<std::string()>;

  static Result<std::unique_ptr<MetricsServer>> listen(net::Loop& loop, const net::Endpoint& at,
                                                       Text text);
  ~MetricsServer();
  // With the port that was given, if 0 was asked for.
  Result<net::Endpoint> listening() const { return net::local_endpoint(listener_); }

 private:
  struct Session;

  MetricsServer(net::Loop& loop, sys::Fd listener, Text text);
  void accept();
  void on_data(const std::shared_ptr<Session>& session, std::span<const std::byte> bytes);
  std::string answer(const std::string& bytes, bool& whole) const;
  void end(const std::shared_ptr<Session>& session);

  net::Loop& loop_;
  sys::Fd listener_;
  Text text_;
  std::unique_ptr<net::FdWatch> watch_;
  std::map<net::Connection*, std::shared_ptr<Session>> sessions_;
};

}  // namespace tess::node
