#include "node/gossip.h"

#include <sys/random.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace tess::node {
namespace {

using cluster::Duration;
using cluster::KnockAnswer;
using cluster::Time;
using std::chrono::milliseconds;

constexpr size_t kInboxMost = 2048;
constexpr milliseconds kBehind{100};
constexpr milliseconds kKnockSilence{300};

uint64_t random_number() {
  uint64_t number = 0;
  const ssize_t got = ::getrandom(&number, sizeof number, 0);
  TESS_CHECK(got == static_cast<ssize_t>(sizeof number), "no random bytes");
  return number;
}

bool is_wildcard(const std::string& address) {
  return address == "0.0.0.0" || address == "::";
}

std::vector<cluster::Address> numeric(const std::vector<net::Endpoint>& endpoints) {
  std::vector<cluster::Address> addresses;
  for (const net::Endpoint& endpoint : endpoints) {
    if (auto address = cluster::Address::parse(endpoint.to_string())) {
      addresses.push_back(*address);
    } else {
      log::warn("node", "event=seed_ignored address={} reason=\"{}\"", endpoint.to_string(),
                address.error().message());
    }
  }
  return addresses;
}

}  // namespace

struct Gossip::Knock {
  explicit Knock(net::Loop& loop) : timer(loop) {}
  cluster::NodeId node;
  net::Endpoint at;
  sys::Fd socket;
  std::unique_ptr<net::FdWatch> watch;
  net::Timer timer;
};

Time Gossip::now() {
  return Time(
      std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

Gossip::Gossip(net::Loop& loop, const Options& options, net::DatagramSocket socket,
               const cluster::LoadRecord& load, OnEvent on_event)
    : loop_(loop),
      socket_(std::move(socket)),
      on_event_(std::move(on_event)),
      cipher_(cluster::make_openssl_cipher()),
      inbox_(kInboxMost, kBehind, options.config.stale_packet),
      timer_(loop) {
  id_.bytes = options.identity.node;
  cluster::Identity identity;
  identity.id = id_;
  identity.session = random_number() | 1;
  identity.name = options.name;
  identity.cluster = options.identity.cluster;
  if (!is_wildcard(options.listen.address)) {
    if (const auto own = cluster::Address::parse(options.listen.to_string())) {
      identity.address = *own;
    }
  }
  cluster::Config config = options.config;
  config.beacons = config.beacons && options.beacons;
  membership_ = std::make_unique<cluster::Membership>(
      config, identity, load, cluster::KeyRing(options.identity.key), *cipher_, directory_,
      cluster::Random(random_number()), now());
}

Gossip::~Gossip() = default;

Result<std::unique_ptr<Gossip>> Gossip::start(net::Loop& loop, const Options& options,
                                              const cluster::LoadRecord& load, OnEvent on_event) {
  TESS_TRY_ASSIGN(net::DatagramSocket socket, net::DatagramSocket::open(options.listen));
  Options used = options;
  if (used.beacons) {
    if (const auto joined = socket.join_beacons(); !joined) {
      log::info("node", "event=no_beacons reason=\"{}\"", joined.error().message());
      used.beacons = false;
    }
  }
  std::unique_ptr<Gossip> gossip(
      new Gossip(loop, used, std::move(socket), load, std::move(on_event)));
  gossip->begin(used);
  return gossip;
}

void Gossip::begin(const Options& options) {
  watch_ = std::make_unique<net::FdWatch>(
      loop_, socket_.fd(), [this] { turn(); }, nullptr);
  watch_->want_read(true);
  if (socket_.beacon_fd() >= 0) {
    beacon_watch_ = std::make_unique<net::FdWatch>(
        loop_, socket_.beacon_fd(), [this] { turn(); }, nullptr);
    beacon_watch_->want_read(true);
  }
  membership_->start(now(), numeric(options.seeds), effects_);
  carry_out();
}

// All that has come is heard before the absence of anything is judged.
void Gossip::turn() {
  const Time start = now();
  socket_.receive(
      [&](std::span<const uint8_t> bytes, const net::DatagramAddress& from, Duration queued) {
        inbox_.put(start - queued, Datagram{from, {bytes.begin(), bytes.end()}});
      });
  while (auto next = inbox_.take(start)) {
    const cluster::Address from{next->second.from.ip, next->second.from.port};
    membership_->receive(start, start - next->first, from, next->second.bytes, effects_);
  }
  if (membership_->deadline() <= start) {
    membership_->tick(start, effects_);
  }
  carry_out();
}

void Gossip::carry_out() {
  // Events may lead to calls that want more done.
  cluster::Effects effects;
  std::swap(effects, effects_);
  for (const auto& send : effects.sends) {
    socket_.send(effects.datagram(send), {send.to.ip, send.to.port});
  }
  for (const auto& beacon : effects.beacons) {
    socket_.send_beacon(effects.datagram(beacon));
  }
  for (const auto& wish : effects.knocks) {
    knock(wish);
  }
  for (const auto& event : effects.events) {
    on_event_(event);
  }
  effects.clear();
  if (effects_.sends.empty() && effects_.beacons.empty() && effects_.knocks.empty() &&
      effects_.events.empty()) {
    std::swap(effects, effects_);  // its memory is kept
  }
  if (left_ && membership_->departed(now())) {
    const auto done = std::exchange(left_, nullptr);
    loop_.post(done);
  }
  wait_for_deadline();
}

void Gossip::wait_for_deadline() {
  const Time deadline = membership_->deadline();
  if (deadline == Time::max()) {
    timer_.stop();
    return;
  }
  const auto wait = std::chrono::ceil<milliseconds>(deadline - now());
  timer_.start(std::max(wait, milliseconds(0)), [this] { turn(); });
}

void Gossip::set_load(const cluster::LoadRecord& load) {
  membership_->set_load(now(), load, effects_);
  carry_out();
}

void Gossip::set_keys(const std::vector<cluster::CipherKey>& keys) {
  cluster::KeyRing ring(keys.front());
  for (const cluster::CipherKey& key : keys) {
    const auto installed = ring.install(key);
    TESS_CHECK(installed, "more keys than a ring has room for");
  }
  membership_->set_keys(std::move(ring));
}

void Gossip::shut_out(const std::vector<cluster::NodeId>& expelled) {
  membership_->shut_out(now(), expelled, effects_);
  carry_out();
}

void Gossip::lost_connection(const cluster::NodeId& node) {
  membership_->lost_connection(now(), node, effects_);
  carry_out();
}

void Gossip::set_seeds(const std::vector<net::Endpoint>& seeds) {
  membership_->set_seeds(numeric(seeds));
}

void Gossip::leave(std::function<void()> done) {
  left_ = std::move(done);
  membership_->leave(now(), effects_);
  carry_out();
}

void Gossip::knock(const cluster::Effects::Knock& wish) {
  const uint64_t number = next_knock_++;
  auto attempt = std::make_unique<Knock>(loop_);
  attempt->node = wish.node;
  auto at = net::Endpoint::parse(wish.at.text(), wish.at.port);
  auto socket = at ? net::start_connect(*at) : Result<sys::Fd>(tl::unexpected(at.error()));
  Knock& kept = *(knocks_[number] = std::move(attempt));
  if (!socket) {
    const int error = socket.error().sys_errno();
    // Told by the loop: Membership is in the middle of a call.
    kept.timer.start(milliseconds(0), [this, number, error] {
      knock_ended(number, error == ECONNREFUSED ? KnockAnswer::kRefused : KnockAnswer::kSilent);
    });
    return;
  }
  kept.at = *at;
  kept.socket = std::move(*socket);
  kept.watch = std::make_unique<net::FdWatch>(loop_, kept.socket.get(), nullptr, [this, number] {
    const Knock& done = *knocks_.at(number);
    const auto connected = net::finish_connect(done.socket, done.at);
    const bool refused = !connected && connected.error().sys_errno() == ECONNREFUSED;
    knock_ended(number, connected ? KnockAnswer::kHolds
                        : refused ? KnockAnswer::kRefused
                                  : KnockAnswer::kSilent);
  });
  kept.watch->want_write(true);
  kept.timer.start(kKnockSilence, [this, number] { knock_ended(number, KnockAnswer::kSilent); });
}

void Gossip::knock_ended(uint64_t number, KnockAnswer answer) {
  const auto found = knocks_.extract(number);
  if (!found.empty()) {
    membership_->knocked(now(), found.mapped()->node, answer, effects_);
    carry_out();
  }
}

}  // namespace tess::node
