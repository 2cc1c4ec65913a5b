#include "sys/credentials.h"

#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "sys/files.h"

namespace tess::sys {

Result<PeerCredentials> peer_credentials(const Fd& unix_socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(unix_socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return fail_errno("ask who is at the other end of a socket");
  }
  return PeerCredentials{peer.pid, peer.uid, peer.gid};
}

Result<std::vector<gid_t>> peer_groups(const Fd& unix_socket) {
  std::vector<gid_t> groups(64);
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  while (::getsockopt(unix_socket.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) {
    if (errno != ERANGE) {
      return fail_errno("ask for the groups of who is at the other end of a socket");
    }
    groups.resize(size / sizeof(gid_t));
  }
  groups.resize(size / sizeof(gid_t));
  return groups;
}

bool is_root() {
  return ::geteuid() == 0;
}

bool has_capability(int capability) {
  const auto status = read_file("/proc/thread-self/status");
  if (!status) {
    return false;
  }
  const size_t at = status->find("CapEff:");
  if (at == std::string::npos) {
    return false;
  }
  const uint64_t effective = std::strtoull(status->c_str() + at + sizeof("CapEff:"), nullptr, 16);
  return ((effective >> capability) & 1) != 0;
}

Result<gid_t> group_id(const std::string& name) {
  std::vector<char> buffer(64 << 10);
  group entry{};
  group* found = nullptr;
  if (const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
      error != 0) {
    errno = error;
    return fail_errno("look up group {}", name);
  }
  if (found == nullptr) {
    return fail(ErrorKind::kFailed, "there is no group {}", name);
  }
  return entry.gr_gid;
}

Result<std::vector<gid_t>> groups_of_user(uid_t uid) {
  std::vector<char> buffer(64 << 10);
  passwd entry{};
  passwd* found = nullptr;
  if (const int error = ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
      error != 0) {
    errno = error;
    return fail_errno("look up user {}", uid);
  }
  if (found == nullptr) {
    return fail(ErrorKind::kFailed, "there is no user {}", uid);
  }
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  while (::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<size_t>(count));
  }
  groups.resize(static_cast<size_t>(count));
  return groups;
}

}  // namespace tess::sys
