#include "node/owner_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace tess::node {
namespace {

// Load must last, so that a cron job does not count.
constexpr OwnerRule::Time kLoadLasts{2000};

bool numbered(const std::string& name, const std::string& prefix) {
  return name.size() > prefix.size() && name.starts_with(prefix) &&
         name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

void add_devices(const std::string& dir, const std::string& prefix,
                 std::vector<std::string>& devices) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (numbered(entry.path().filename().string(), prefix)) {
      devices.push_back(entry.path().string());
    }
  }
}

}  // namespace

void OwnerRule::loaded(Time now, double own_threads) {
  if (options_.load <= 0 || own_threads < options_.load) {
    loaded_since_.reset();
  } else if (!loaded_since_) {
    loaded_since_ = now;
  }
}

bool OwnerRule::present(Time now) const {
  return (touched_ && now - *touched_ < options_.idle) ||
         (loaded_since_ && now - *loaded_since_ >= kLoadLasts);
}

std::optional<OwnerKind> owner_kind_of(const std::string& text) {
  static const std::map<std::string, OwnerKind> kinds = {
      {"off", OwnerKind::kOff}, {"console", OwnerKind::kConsole}, {"logins", OwnerKind::kLogins}};
  const auto found = kinds.find(text);
  return found == kinds.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> owner_devices(OwnerKind kind, const std::string& dev) {
  std::vector<std::string> devices;
  if (kind == OwnerKind::kOff) {
    return devices;
  }
  add_devices(dev + "/input", "event", devices);
  add_devices(dev, "tty", devices);
  add_devices(dev, "ttyS", devices);
  if (kind == OwnerKind::kLogins) {
    add_devices(dev + "/pts", "", devices);
  }
  std::sort(devices.begin(), devices.end());
  return devices;
}

OwnerWatch::OwnerWatch(sys::Fd inotify, std::function<std::vector<std::string>()> devices,
                       std::function<void()> touched)
    : inotify_(std::move(inotify)), devices_(std::move(devices)), touched_(std::move(touched)) {}

OwnerWatch::~OwnerWatch() = default;

Result<std::unique_ptr<OwnerWatch>> OwnerWatch::start(
    net::Loop& loop, std::function<std::vector<std::string>()> devices,
    std::function<void()> touched) {
  sys::Fd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) {
    return fail_errno("watch for the owner");
  }
  std::unique_ptr<OwnerWatch> watch(
      new OwnerWatch(std::move(inotify), std::move(devices), std::move(touched)));
  watch->look();
  watch->watch_ = std::make_unique<net::FdWatch>(
      loop, watch->inotify_.get(), [raw = watch.get()] { raw->read(); }, nullptr);
  watch->watch_->want_read(true);
  return watch;
}

void OwnerWatch::look() {
  const auto devices = devices_();
  const std::set<std::string> there(devices.begin(), devices.end());
  std::erase_if(watches_, [&](const auto& item) {
    const bool gone = !there.contains(item.first);
    if (gone) {
      (void)::inotify_rm_watch(inotify_.get(), item.second);
    }
    return gone;
  });
  for (const std::string& device : devices) {
    if (!watches_.contains(device)) {
      const int number = ::inotify_add_watch(inotify_.get(), device.c_str(), IN_ACCESS);
      if (number >= 0) {
        watches_[device] = number;
      }
    }
  }
}

void OwnerWatch::read() {
  alignas(inotify_event) char events[4096];
  bool used = false;
  ssize_t size = 0;
  while ((size = ::read(inotify_.get(), events, sizeof(events))) > 0) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(events + at);
      used = used || (event->mask & IN_ACCESS) != 0;
      if ((event->mask & IN_IGNORED) != 0) {
        std::erase_if(watches_, [&](const auto& item) { return item.second == event->wd; });
      }
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
  if (used) {
    touched_();
  }
}

}  // namespace tess::node
