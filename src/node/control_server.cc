#include "node/control_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/credentials.h"
#include "sys/unix_socket.h"

namespace tess::node {
namespace {

constexpr size_t kLineMax = 2 << 20;  // a batch job carries its script and environment

constexpr size_t kSessionsMax = 1024;
constexpr const char* kGroup = "tessera";

}  // namespace

struct ControlServer::Session {
  std::shared_ptr<net::Connection> connection;
  Caller caller;
  std::string buffer;
};

void ControlReply::send_line(std::string line) {
  if (take_ != nullptr) {
    take_(line);
  } else if (const auto connection = connection_.lock()) {
    line.push_back('\n');
    connection->send(line);
  }
}

ControlServer::ControlServer(net::Loop& loop, Handler handler)
    : loop_(loop), handler_(std::move(handler)) {}

ControlServer::~ControlServer() {
  for (auto& [raw, session] : sessions_) {
    session->connection->close();
  }
}

Result<> ControlServer::listen(const std::string& path) {
  TESS_TRY_ASSIGN(listener_, sys::listen_unix(path, 0660));
  if (const auto group = sys::group_id(kGroup)) {
    if (::chown(path.c_str(), 0, *group) != 0) {
      return fail_errno("give {} to group {}", path, kGroup);
    }
  }
  // The umask may have taken the group's rights.
  if (::chmod(path.c_str(), 0660) != 0) {
    return fail_errno("set the mode of {}", path);
  }
  ::fcntl(listener_.get(), F_SETFL, ::fcntl(listener_.get(), F_GETFL) | O_NONBLOCK);
  watch_ = std::make_unique<net::FdWatch>(
      loop_, listener_.get(), [this] { accept(); }, nullptr);
  watch_->want_read(true);
  return {};
}

void ControlServer::accept() {
  sys::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid() || sessions_.size() >= kSessionsMax) {
    return;
  }
  const auto peer = sys::peer_credentials(fd);
  const auto groups = sys::peer_groups(fd);
  if (!peer) {
    return;
  }
  auto session = std::make_shared<Session>();
  session->caller = {peer->uid, peer->pid, peer->gid, groups.value_or(std::vector<gid_t>())};
  const std::weak_ptr<Session> weak = session;
  session->connection = net::Connection::plain(loop_, std::move(fd),
                                               {nullptr,
                                                [this, weak](std::span<const std::byte> bytes) {
                                                  if (const auto alive = weak.lock()) {
                                                    on_data(alive, bytes);
                                                  }
                                                },
                                                [this, weak](const Error&) {
                                                  if (const auto alive = weak.lock()) {
                                                    sessions_.erase(alive->connection.get());
                                                  }
                                                }});
  sessions_[session->connection.get()] = session;
}

void ControlServer::on_data(const std::shared_ptr<Session>& session,
                            std::span<const std::byte> bytes) {
  session->buffer.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto reply = std::make_shared<ControlReply>(session->connection);
  size_t start = 0;
  for (size_t end = 0; (end = session->buffer.find('\n', start)) != std::string::npos;
       start = end + 1) {
    handler_(session->caller, session->buffer.substr(start, end - start), reply);
  }
  session->buffer.erase(0, start);
  if (session->buffer.size() > kLineMax) {
    log::warn("node", "event=control_dropped uid={} reason=\"line too long\"", session->caller.uid);
    session->connection->close();
    sessions_.erase(session->connection.get());
  }
}

}  // namespace tess::node
