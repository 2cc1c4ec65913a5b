// ControlServer: the unix socket of `tess`. Lines of text in, lines of text out; what they mean is
// the business of ControlApi. The kernel says who the caller is (SO_PEERCRED); the socket's mode
// (0660, group tessera where it exists) says who may ask at all.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/connection.h"
#include "net/loop.h"
#include "sys/fd.h"

namespace tess::node {

struct Caller {
  uid_t uid = 0;
  pid_t pid = 0;  // 0: in a pid namespace that this node does not see
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

// Where the answers to one request go. Kept as long as there may be more; says nothing to a caller
// who has left.
class ControlReply {
 public:
  explicit ControlReply(std::weak_ptr<net::Connection> connection)
      : connection_(std::move(connection)) {}
  // Of a request that came from elsewhere: `take` gets the lines.
  explicit ControlReply(std::function<void(const std::string&)> take) : take_(std::move(take)) {}
  bool alive() const { return take_ != nullptr || !connection_.expired(); }
  void send_line(std::string line);

 private:
  std::weak_ptr<net::Connection> connection_;
  std::function<void(const std::string&)> take_;
};

class ControlServer {
 public:
  using Handler =
      std::function<void(const Caller&, const std::string& line, std::shared_ptr<ControlReply>)>;

  ControlServer(net::Loop& loop, Handler handler);
  ~ControlServer();
  Result<> listen(const std::string& path);

 private:
  struct Session;
  void accept();
  void on_data(const std::shared_ptr<Session>& session, std::span<const std::byte> bytes);

  net::Loop& loop_;
  Handler handler_;
  sys::Fd listener_;
  std::unique_ptr<net::FdWatch> watch_;
  std::map<net::Connection*, std::shared_ptr<Session>> sessions_;
};

}  // namespace tess::node
