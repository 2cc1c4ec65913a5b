// Who somebody is: this process, or the peer of a unix socket.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

struct PeerCredentials {
  pid_t pid = 0;  // in our pid namespace, 0 if it is not in it
  uid_t uid = 0;
  gid_t gid = 0;
};
// The kernel's word on the process that connected (or made the pair), at that moment.
Result<PeerCredentials> peer_credentials(const Fd& unix_socket);
// Its supplementary groups at that moment.
Result<std::vector<gid_t>> peer_groups(const Fd& unix_socket);

bool is_root();
// CAP_* of linux/capability.h, in the effective set of the calling thread.
bool has_capability(int capability);
// gid of a named group; kFailed if there is none.
Result<gid_t> group_id(const std::string& name);
// All groups (primary and supplementary) that a user is a member of, from the user database.
Result<std::vector<gid_t>> groups_of_user(uid_t uid);

}  // namespace tess::sys
