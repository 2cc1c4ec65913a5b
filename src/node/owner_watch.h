// OwnerWatch: is the node's owner at the machine? Says so as soon as somebody uses a keyboard, a
// mouse or a terminal there, and until nobody has for a while. What is typed is never read: inotify
// tells that a program (the display server, a shell) has read from a device. Loop thread only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/loop.h"
#include "sys/fd.h"

namespace tess::node {

// The rule, without devices and clock: the caller tells when somebody did something, and how much
// runs here that is neither a guest nor a job.
class OwnerRule {
 public:
  using Time = std::chrono::milliseconds;  // of any steady clock
  struct Options {
    Time idle = std::chrono::minutes(5);  // back to the guests after this time
    double load = 0;  // so many threads of the owner's own count as presence; 0: load does not
  };
  explicit OwnerRule(Options options) : options_(options) {}
  void touched(Time now) { touched_ = now; }
  void loaded(Time now, double own_threads);
  bool present(Time now) const;

 private:
  Options options_;
  std::optional<Time> touched_;
  std::optional<Time> loaded_since_;
};

// Which devices tell of an owner.
enum class OwnerKind {
  kOff,
  kConsole,  // keyboards and mice, and the text consoles
  kLogins,   // these, and every terminal of a login from elsewhere
};
std::optional<OwnerKind> owner_kind_of(const std::string& text);
std::vector<std::string> owner_devices(OwnerKind kind, const std::string& dev = "/dev");

class OwnerWatch {
 public:
  // `devices` is asked again each time look() is called: devices come and go. `touched` comes at
  // once when one is used.
  static Result<std::unique_ptr<OwnerWatch>> start(
      net::Loop& loop, std::function<std::vector<std::string>()> devices,
      std::function<void()> touched);
  ~OwnerWatch();
  void look();

 private:
  OwnerWatch(sys::Fd inotify, std::function<std::vector<std::string>()> devices,
             std::function<void()> touched);
  void read();

  sys::Fd inotify_;
  std::function<std::vector<std::string>()> devices_;
  std::function<void()> touched_;
  std::map<std::string, int> watches_;
  std::unique_ptr<net::FdWatch> watch_;
};

}  // namespace tess::node
