#include "host/channel_pool.h"

#include <algorithm>
#include <span>

#include "stub/session.h"

namespace tess::host {
namespace {

std::span<const uint8_t> bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

void ChannelPool::add_socket(uint64_t id, sys::Fd socket) {
  const std::lock_guard guard(mutex_);
  if (entries_.size() >= kEntriesMax && !entries_.contains(id)) {
    return;  // the socket closes; its deputy notices
  }
  entries_[id].socket = std::move(socket);
  changed_.notify_all();
}

Result<> ChannelPool::add_offer(uint64_t id, bool spare, const std::string& key_to_host,
                                const std::string& key_to_home, bool encrypted) {
  if (key_to_host.size() != 16 || key_to_home.size() != 16) {
    return fail(ErrorKind::kBadInput, "channel {} is offered with keys of {} and {} bytes", id,
                key_to_host.size(), key_to_home.size());
  }
  const std::lock_guard guard(mutex_);
  if (entries_.size() >= kEntriesMax && !entries_.contains(id)) {
    return fail(ErrorKind::kBadInput, "more than {} channels are offered", kEntriesMax);
  }
  Entry& entry = entries_[id];
  stub::ChannelKeys at_home;
  stub::make_channel_keys(bytes(key_to_host), bytes(key_to_home), encrypted, at_home, entry.keys);
  entry.offered = true;
  entry.spare = spare;
  changed_.notify_all();
  return {};
}

template <typename Find>
Result<Channel> ChannelPool::wait_for(std::chrono::milliseconds timeout, Find find) {
  std::unique_lock guard(mutex_);
  auto found = entries_.end();
  const bool there = changed_.wait_for(guard, timeout, [&] {
    found = find();
    return closed_ || found != entries_.end();
  });
  if (closed_) {
    return fail(ErrorKind::kDisconnected, "the link to home is closed");
  }
  if (!there) {
    return fail(ErrorKind::kRetry, "home has not connected a channel in time");
  }
  Channel channel{found->first, std::move(found->second.socket), found->second.keys};
  entries_.erase(found);
  return channel;
}

Result<Channel> ChannelPool::take(uint64_t id, std::chrono::milliseconds timeout) {
  return wait_for(timeout, [this, id] {
    const auto at = entries_.find(id);
    return at != entries_.end() && at->second.complete() ? at : entries_.end();
  });
}

Result<Channel> ChannelPool::take_spare(std::chrono::milliseconds timeout) {
  return wait_for(timeout, [this] {
    return std::find_if(entries_.begin(), entries_.end(), [](const auto& entry) {
      return entry.second.spare && entry.second.complete();
    });
  });
}

void ChannelPool::close() {
  const std::lock_guard guard(mutex_);
  closed_ = true;
  entries_.clear();
  changed_.notify_all();
}

}  // namespace tess::host
