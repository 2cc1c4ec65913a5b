#include "sys/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <string>

namespace tess::sys {
namespace {

std::string namespace_path(pid_t pid, Namespace kind) {
  const std::string who = pid == 0 ? "self" : std::to_string(pid);
  return "/proc/" + who + "/ns/" + namespace_name(kind);
}

}  // namespace

const char* namespace_name(Namespace kind) {
  switch (kind) {
    case Namespace::kUser:
      return "user";
    case Namespace::kMount:
      return "mnt";
    case Namespace::kPid:
      return "pid";
    case Namespace::kNet:
      return "net";
    case Namespace::kUts:
      return "uts";
    case Namespace::kIpc:
      return "ipc";
    case Namespace::kTime:
      return "time";
    case Namespace::kCgroup:
      return "cgroup";
  }
  return "unknown";
}

int namespace_clone_flag(Namespace kind) {
  switch (kind) {
    case Namespace::kUser:
      return CLONE_NEWUSER;
    case Namespace::kMount:
      return CLONE_NEWNS;
    case Namespace::kPid:
      return CLONE_NEWPID;
    case Namespace::kNet:
      return CLONE_NEWNET;
    case Namespace::kUts:
      return CLONE_NEWUTS;
    case Namespace::kIpc:
      return CLONE_NEWIPC;
    case Namespace::kTime:
      return 0x80;  // CLONE_NEWTIME, not in the headers of glibc 2.36
    case Namespace::kCgroup:
      return CLONE_NEWCGROUP;
  }
  return 0;
}

Result<Fd> open_namespace(pid_t pid, Namespace kind) {
  const std::string path = namespace_path(pid, kind);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("open namespace {}", path);
  }
  return fd;
}

Result<> enter_namespace(const Fd& ns, Namespace kind) {
  if (::setns(ns.get(), namespace_clone_flag(kind)) != 0) {
    return fail_errno("enter a {} namespace", namespace_name(kind));
  }
  return {};
}

Result<uint64_t> namespace_id(pid_t pid, Namespace kind) {
  const std::string path = namespace_path(pid, kind);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    return fail_errno("stat namespace {}", path);
  }
  return status.st_ino;
}

Result<> unshare_namespaces(int clone_flags) {
  if (::unshare(clone_flags) != 0) {
    return fail_errno("unshare namespaces {:#x}", clone_flags);
  }
  return {};
}

}  // namespace tess::sys
