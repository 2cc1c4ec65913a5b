#include "node/manage_exclusions.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

namespace tess::node {
namespace {

using Kind = ManageRule::Kind;

constexpr uid_t kFirstPerson = 1000;  // below are the system's own users

constexpr const char* kShells[] = {"sh",  "bash", "dash", "ash",  "zsh",
                                   "ksh", "mksh", "fish", "tcsh", "csh"};

// Programs that people's sessions, or the machine itself, hang on: who frees a CPU by moving one
// has made a whole desk slow.
constexpr const char* kOfSessions[] = {
    "sshd*",       "login",          "getty",       "agetty",      "su",
    "sudo",        "doas",           "systemd*",    "(sd-pam)",    "dbus-daemon",
    "dbus-broke*", "Xorg",           "X",           "Xwayland",    "Xvnc",
    "gnome-shell", "gnome-session*", "kwin_*",      "plasmashell", "ksmserver",
    "sddm*",       "gdm*",           "lightdm*",    "weston",      "sway",
    "mutter*",     "pipewire*",      "wireplumber", "pulseaudio",  "tmux*",
    "screen",      "ssh-agent",      "gpg-agent",   "polkitd",     "elogind*",
    "cron",        "crond",          "dockerd",     "containerd*", "conmon",
    "runc",        "podman",
};

std::string base_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

template <size_t N>
bool named(const char* const (&names)[N], const std::string& name) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](const char* glob) { return ::fnmatch(glob, name.c_str(), 0) == 0; });
}

template <typename Ids>
bool all_equal(const Ids& ids) {
  return std::all_of(ids.begin(), ids.end(), [&](auto id) { return id == ids[0]; });
}

bool below(const std::string& group, const std::string& top) {
  return group == top || group.starts_with(top + "/");
}

bool is_service(const Subject& subject) {
  if (subject.uids[0] >= kFirstPerson) {
    return false;  // what a person has started by cron or at is his
  }
  const bool in_slice =
      std::any_of(subject.cgroups.begin(), subject.cgroups.end(), [](const std::string& group) {
        return below(group, "/system.slice") || below(group, "/init.scope");
      });
  // Without systemd: one that has daemonised itself in the name of the system.
  const bool daemon =
      subject.parent == 1 && subject.session == subject.pid && subject.terminal == 0;
  return in_slice || daemon;
}

// Does the rule mean this service in particular?
bool names_service(const ManageRule& rule) {
  switch (rule.kind) {
    case Kind::kUser:
      return rule.user != 0;
    case Kind::kCgroup:
      return rule.pattern != "/" && rule.pattern != "/system.slice";
    case Kind::kCommand:
      return rule.pattern.find_first_not_of("*?") != std::string::npos;
    case Kind::kAll:
      break;
  }
  return false;
}

std::string session_reason(const Subject& subject) {
  const std::string program = base_of(subject.exe);
  if (named(kOfSessions, subject.name) || named(kOfSessions, program)) {
    return fmt::format("it is {}, on which people's sessions or the machine itself depend",
                       subject.name);
  }
  const bool shell = named(kShells, program.empty() ? subject.name : program);
  const bool login = !subject.arguments.empty() && subject.arguments[0].starts_with("-");
  if (shell && (login || subject.arguments.size() == 1)) {
    return "it is somebody's shell";
  }
  if (subject.pid == subject.session && (subject.terminal != 0 || shell)) {
    return "it leads a session";
  }
  return {};
}

}  // namespace

std::string excluded_because(const Subject& subject, const ManageRule& rule) {
  if (subject.kernel_thread) {
    return "it is a kernel thread";
  }
  if (subject.state == 'Z' || subject.state == 'X') {
    return "it has ended";
  }
  if (subject.of_tessera) {
    return "it is a part of Tessera itself, or started by it";
  }
  if (!subject.own_pid_namespace) {
    return "it lives in a container (a pid namespace other than the node's)";
  }
  if (subject.pid == 1 || subject.innermost_pid == 1) {
    return "it is the init that everything else depends on";
  }
  if (subject.tracer != 0) {
    return fmt::format("it is being traced by process {}", subject.tracer);
  }
  const bool others = rule.owner != 0 && !subject.belongs_to(rule.owner);
  const bool lent = subject.uids[0] != 0 && subject.has_capabilities;
  if (!all_equal(subject.uids) || !all_equal(subject.gids) || others || lent) {
    return "it runs with rights that are not its user's own (set-uid, or file capabilities)";
  }
  if (subject.seccomp) {
    return "it has confined itself with seccomp; such processes stay at home for now";
  }
  if (is_service(subject) && !names_service(rule)) {
    return "it is a service of the system, which only a rule that names it (by cgroup, command or "
           "user) covers";
  }
  return session_reason(subject);
}

}  // namespace tess::node
