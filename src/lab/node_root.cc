#include "lab/node_root.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>

#include "lab/state.h"
#include "sys/files.h"
#include "sys/mounts.h"

namespace tess::lab {
namespace {

constexpr unsigned long kQuiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
constexpr const char* kGroup =
    "root:x:0:\n"
    "tty:x:5:\n"
    "tessera:x:990:\n"
    "nogroup:x:65534:\n";
constexpr const char* kNsswitch = "passwd: files\ngroup: files\nhosts: files\n";

Result<> put_identity(const NodeFiles& files, const std::string& root) {
  for (const char* name : {"ca.crt", "node.crt", "node.key", "cluster.key"}) {
    TESS_TRY(sys::copy_file(files.identity + "/" + name, root + "/var/lib/tessera/" + name));
  }
  if (std::filesystem::exists(files.identity + "/ca.key")) {
    TESS_TRY(sys::copy_file(files.identity + "/ca.key", root + "/var/lib/tessera/ca.key"));
  }
  return sys::write_file(root + "/etc/tessera/tessera.toml", files.config);
}

// A device of the machine, if it has it. Where mknod is not allowed (some containers) the machine's
// own node is bound.
Result<> make_device(const std::string& root, const std::string& name, mode_t mode) {
  const std::string from = "/dev/" + name;
  const std::string to = root + from;
  struct stat status {};
  if (::stat(from.c_str(), &status) != 0 || !S_ISCHR(status.st_mode)) {
    return {};
  }
  if (::mknod(to.c_str(), S_IFCHR | mode, status.st_rdev) == 0) {
    if (::chmod(to.c_str(), mode) != 0) {
      return fail_errno("set the mode of {}", to);
    }
    return {};
  }
  TESS_TRY(sys::write_file(to, ""));
  return sys::bind_mount(from, to, false);
}

Result<> make_devices(const std::string& root) {
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty", "fuse"}) {
    TESS_TRY(make_device(root, name, 0666));
  }
  TESS_TRY(make_device(root, "userfaultfd", 0600));
  TESS_TRY(sys::make_directories(root + "/dev/pts"));
  TESS_TRY(sys::make_directories(root + "/dev/shm"));
  TESS_TRY(sys::mount_filesystem("devpts", root + "/dev/pts", MS_NOSUID | MS_NOEXEC,
                                 "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  TESS_TRY(sys::mount_filesystem("tmpfs", root + "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"));
  const std::pair<const char*, const char*> links[] = {{"pts/ptmx", "/dev/ptmx"},
                                                       {"/proc/self/fd", "/dev/fd"},
                                                       {"/proc/self/fd/0", "/dev/stdin"},
                                                       {"/proc/self/fd/1", "/dev/stdout"},
                                                       {"/proc/self/fd/2", "/dev/stderr"}};
  for (const auto& [to, name] : links) {
    if (::symlink(to, (root + name).c_str()) != 0) {
      return fail_errno("make {}", name);
    }
  }
  return {};
}

Result<> make_tree(const NodeFiles& files, const std::string& root) {
  for (const char* name : {"/usr", "/dev", "/proc", "/sys", "/root", "/mnt", "/etc/tessera",
                           "/run/tessera", "/var/lib/tessera", "/var/log"}) {
    TESS_TRY(sys::make_directories(root + name));
  }
  for (const char* name : {"/tmp", "/var/tmp"}) {
    TESS_TRY(sys::make_directories(root + name));
    if (::chmod((root + name).c_str(), 01777) != 0) {
      return fail_errno("set the mode of {}", name);
    }
  }
  const std::pair<const char*, const char*> links[] = {
      {"usr/bin", "/bin"}, {"usr/sbin", "/sbin"}, {"usr/lib", "/lib"}, {"usr/lib64", "/lib64"}};
  for (const auto& [to, name] : links) {
    if (::symlink(to, (root + name).c_str()) != 0) {
      return fail_errno("make {}", name);
    }
  }
  const std::pair<const char*, std::string> texts[] = {{"passwd", kPasswd},
                                                       {"group", kGroup},
                                                       {"nsswitch.conf", kNsswitch},
                                                       {"hostname", files.host_name + "\n"},
                                                       {"hosts", files.hosts}};
  for (const auto& [name, text] : texts) {
    TESS_TRY(sys::write_file(root + "/etc/" + name, text));
  }
  return {};
}

// The node's own cgroups, as a machine of its own would have them: from inside, the node's limits
// are those of the whole machine. The caller is in a cgroup namespace of its own.
Result<> mount_cgroups(const std::string& root) {
  const std::string top = root + "/sys/fs/cgroup";
  if (std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers")) {
    return sys::mount_filesystem("cgroup2", top, kQuiet);
  }
  std::vector<std::string> controllers;
  for (const char* name : {"memory", "cpu", "cpuacct", "cpu,cpuacct", "pids"}) {
    const std::string there = std::string("/sys/fs/cgroup/") + name;
    std::error_code error;
    if (std::filesystem::is_directory(std::filesystem::symlink_status(there, error))) {
      controllers.push_back(name);
    }
  }
  if (controllers.empty()) {
    return {};
  }
  TESS_TRY(sys::mount_filesystem("tmpfs", top, kQuiet, "mode=0755"));
  for (const std::string& name : controllers) {
    TESS_TRY(sys::make_directories(top + "/" + name));
    TESS_TRY(sys::mount_filesystem("cgroup", top + "/" + name, kQuiet, name));
  }
  return {};
}

}  // namespace

std::vector<std::string> private_directories() {
  return {"/etc/tessera", "/run/tessera", "/var/lib/tessera"};
}

Result<> make_server_root(const NodeFiles& files) {
  TESS_TRY(sys::isolate_mounts());
  TESS_TRY(sys::mount_filesystem("proc", "/proc", kQuiet));
  for (const std::string& directory : private_directories()) {
    TESS_TRY(sys::mount_filesystem("tmpfs", directory, MS_NOSUID | MS_NODEV, "mode=0755"));
  }
  TESS_TRY(put_identity(files, ""));
  TESS_TRY(mount_cgroups(""));
  // The record of the labs of this machine means nothing in here: its pids are of another
  // namespace, and a lab inside the lab must not mistake it for its own.
  TESS_TRY(sys::mount_filesystem("tmpfs", kLabsDirectory, MS_NOSUID | MS_NODEV, "mode=0755"));
  if (::chdir("/") != 0) {
    return fail_errno("change to /");
  }
  return {};
}

Result<> make_bare_root(const NodeFiles& files) {
  TESS_TRY(sys::isolate_mounts());
  const std::string root = files.mount_on;
  TESS_TRY(sys::mount_filesystem("tmpfs", root, 0, "mode=0755"));
  TESS_TRY(make_tree(files, root));
  TESS_TRY(put_identity(files, root));
  TESS_TRY(sys::bind_mount(files.image, root + "/usr", true));
  TESS_TRY(make_devices(root));
  TESS_TRY(sys::mount_filesystem("proc", root + "/proc", kQuiet));
  TESS_TRY(sys::mount_filesystem("sysfs", root + "/sys", kQuiet | MS_RDONLY));
  TESS_TRY(mount_cgroups(root));
  return sys::pivot_to(root);
}

}  // namespace tess::lab
