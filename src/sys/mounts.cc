#include "sys/mounts.h"

#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tess::sys {

Result<> isolate_mounts() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return fail_errno("isolate the mounts of this namespace");
  }
  return {};
}

Result<> mount_filesystem(const std::string& type, const std::string& target, unsigned long flags,
                          const std::string& options) {
  if (::mount(type.c_str(), target.c_str(), type.c_str(), flags,
              options.empty() ? nullptr : options.c_str()) != 0) {
    return fail_errno("mount {} on {}", type, target);
  }
  return {};
}

Result<> bind_mount(const std::string& source, const std::string& target, bool read_only) {
  if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return fail_errno("bind {} to {}", source, target);
  }
  return read_only ? remount_read_only(target) : Result<>();
}

Result<> remount_read_only(const std::string& target) {
  struct statvfs status {};
  if (::statvfs(target.c_str(), &status) != 0) {
    return fail_errno("look at the mount {}", target);
  }
  // A remount that forgets nosuid, nodev or noexec would be refused, or worse, granted.
  unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
  flags |= (status.f_flag & ST_NOSUID) != 0 ? MS_NOSUID : 0;
  flags |= (status.f_flag & ST_NODEV) != 0 ? MS_NODEV : 0;
  flags |= (status.f_flag & ST_NOEXEC) != 0 ? MS_NOEXEC : 0;
  if (::mount(nullptr, target.c_str(), nullptr, flags, nullptr) != 0) {
    return fail_errno("make {} read-only", target);
  }
  return {};
}

Result<> detach_mount(const std::string& target) {
  if (::umount2(target.c_str(), MNT_DETACH) != 0) {
    return fail_errno("unmount {}", target);
  }
  return {};
}

Result<> pivot_to(const std::string& directory) {
  // The new root over the old one at the same place (pivot_root(2), "pivot_root(".", ".")"), then
  // the old one away.
  if (::chdir(directory.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) {
    return fail_errno("make {} the root", directory);
  }
  TESS_TRY(detach_mount("."));
  if (::chdir("/") != 0) {
    return fail_errno("change to the new root");
  }
  return {};
}

}  // namespace tess::sys
