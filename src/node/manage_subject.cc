#include "node/manage_subject.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <sstream>

#include "sys/files.h"

namespace tess::node {
namespace {

constexpr unsigned long kKernelThreadFlag = 0x00200000;  // PF_KTHREAD
constexpr size_t kArgumentsMost = 1 << 20;

std::string read_link(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  return size > 0 ? std::string(target, static_cast<size_t>(size)) : std::string();
}

std::vector<std::string> split_at_zeros(const std::string& text) {
  std::vector<std::string> words;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\0', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

bool is_program_of_tessera(const std::string& exe) {
  const std::string name = exe.substr(exe.rfind('/') + 1);
  return name == "tess" || name == "tessd" || name.starts_with("tess-agent");
}

}  // namespace

bool Subject::belongs_to(uid_t uid) const {
  return std::all_of(uids.begin(), uids.end(), [uid](uid_t one) { return one == uid; });
}

std::string Subject::command_line() const {
  std::string line;
  for (const std::string& word : arguments) {
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? "[" + name + "]" : line;
}

// proc(5): the name may hold anything, also ") R 1"; the last parenthesis ends it.
bool parse_stat(const std::string& text, Subject& subject) {
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) {
    return false;
  }
  subject.name = text.substr(open + 1, close - open - 1);
  std::istringstream rest(text.substr(close + 1));
  std::string skipped;
  pid_t group = 0;
  int foreground = 0;
  unsigned long flags = 0;
  rest >> subject.state >> subject.parent >> group >> subject.session >> subject.terminal >>
      foreground >> flags;
  constexpr int kFirstFault = 10;
  constexpr int kUserTime = 14;
  constexpr int kThirdTime = 16;
  constexpr int kStart = 22;
  for (int field = kFirstFault; field < kUserTime; ++field) {
    rest >> skipped;
  }
  uint64_t user = 0;
  uint64_t system = 0;
  rest >> user >> system;
  for (int field = kThirdTime; field < kStart; ++field) {
    rest >> skipped;
  }
  rest >> subject.start_time;
  subject.kernel_thread = (flags & kKernelThreadFlag) != 0;
  subject.cpu_seconds =
      static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return !rest.fail();
}

bool parse_status(const std::string& text, Subject& subject) {
  std::istringstream lines(text);
  std::string line;
  int found = 0;
  while (std::getline(lines, line)) {
    const size_t colon = line.find(':');
    const std::string label = line.substr(0, colon);
    std::istringstream value(colon == std::string::npos ? "" : line.substr(colon + 1));
    if (label == "TracerPid") {
      value >> subject.tracer;
    } else if (label == "Threads") {
      value >> subject.threads;
    } else if (label == "Uid") {
      for (uid_t& uid : subject.uids) {
        value >> uid;
      }
      found += value.fail() ? 0 : 1;
    } else if (label == "Gid") {
      for (gid_t& gid : subject.gids) {
        value >> gid;
      }
      found += value.fail() ? 0 : 1;
    } else if (label == "NSpid") {
      for (pid_t id = 0; value >> id;) {
        subject.innermost_pid = id;
      }
    } else if (label == "CapPrm") {
      uint64_t set = 0;
      value >> std::hex >> set;
      subject.has_capabilities = set != 0;
    } else if (label == "Seccomp") {
      int mode = 0;
      value >> mode;
      subject.seccomp = mode != 0;
    }
  }
  return found == 2;
}

std::vector<std::string> parse_cgroups(const std::string& text) {
  std::vector<std::string> paths;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string path = line.substr(second + 1);
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) {
      paths.push_back(path);
    }
  }
  return paths;
}

std::optional<Subject> read_subject(pid_t pid) {
  const std::string directory = "/proc/" + std::to_string(pid);
  const auto stat = sys::read_file(directory + "/stat");
  const auto status = sys::read_file(directory + "/status");
  Subject subject;
  subject.pid = subject.innermost_pid = pid;
  if (pid <= 0 || !stat || !status || !parse_stat(*stat, subject) ||
      !parse_status(*status, subject)) {
    return std::nullopt;
  }
  subject.exe = read_link(directory + "/exe");
  if (const auto arguments = sys::read_file(directory + "/cmdline", kArgumentsMost)) {
    subject.arguments = split_at_zeros(*arguments);
  }
  if (const auto groups = sys::read_file(directory + "/cgroup")) {
    subject.cgroups = parse_cgroups(*groups);
  }
  static const std::string kHere = read_link("/proc/self/ns/pid");
  const std::string there = read_link(directory + "/ns/pid");
  subject.own_pid_namespace = there.empty() || there == kHere;
  subject.of_tessera = is_program_of_tessera(subject.exe);
  return subject;
}

}  // namespace tess::node
