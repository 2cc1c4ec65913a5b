#include "sys/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace tess::sys {
namespace {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorKind::kBadInput, "socket path {} is longer than {} bytes", path,
                sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<Fd> unix_socket() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return fail_errno("make a unix socket");
  }
  return fd;
}

}  // namespace

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return fail_errno("make a pipe");
  }
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Result<SocketPair> make_socket_pair(int type) {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) {
    return fail_errno("make a socket pair");
  }
  return SocketPair{Fd(fds[0]), Fd(fds[1])};
}

Result<Fd> listen_unix(const std::string& path, mode_t mode) {
  TESS_TRY_ASSIGN(const sockaddr_un address, unix_address(path));
  TESS_TRY_ASSIGN(Fd fd, unix_socket());
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    ::unlink(path.c_str());
  }
  // The mode of the unbound socket becomes that of the file (less the umask): no moment with wider
  // permissions.
  if (::fchmod(fd.get(), mode) != 0) {
    return fail_errno("set the mode of socket {}", path);
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return fail_errno("listen on {}", path);
  }
  return fd;
}

Result<Fd> connect_unix(const std::string& path) {
  TESS_TRY_ASSIGN(const sockaddr_un address, unix_address(path));
  TESS_TRY_ASSIGN(Fd fd, unix_socket());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return fail(ErrorKind::kRetry, "nobody listens on {}", path);
    }
    return fail_errno("connect to {}", path);
  }
  return fd;
}

Result<> send_message(const Fd& socket, std::span<const std::byte> data, std::span<const int> fds) {
  iovec part{const_cast<std::byte*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<std::byte> control(CMSG_SPACE(fds.size_bytes()));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) {
    if (errno == EPIPE || errno == ECONNRESET) {
      return fail(ErrorKind::kDisconnected, "the other end of the socket is closed");
    }
    if (errno != EINTR) {
      return fail_errno("send a message of {} bytes with {} descriptors", data.size(), fds.size());
    }
  }
  return {};
}

Result<Message> receive_message(const Fd& socket, size_t max_bytes, size_t max_fds) {
  Message result;
  result.data.resize(max_bytes);
  iovec part{result.data.data(), result.data.size()};
  std::vector<std::byte> control(CMSG_SPACE(max_fds * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t n = 0;
  while ((n = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == ECONNRESET) {
      n = 0;
      break;
    }
    if (errno != EINTR) {
      return fail_errno("receive a message");
    }
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); n >= 0 && header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        result.fds.emplace_back(fd);
      }
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return fail(ErrorKind::kBadInput, "a message longer than {} bytes or {} descriptors", max_bytes,
                max_fds);
  }
  result.data.resize(static_cast<size_t>(n));
  return result;
}

}  // namespace tess::sys
