#include "node/charter_keeper.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "net/secret_proof.h"
#include "node/identity.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using net::Charter;
using std::chrono::milliseconds;

constexpr milliseconds kTellTimeout{10'000};
constexpr milliseconds kTellAgain{2'000};

wire::ClusterMessage done(const Result<>& result) {
  wire::ClusterMessage message;
  message.mutable_done()->set_ok(result.has_value());
  message.mutable_done()->set_message(result ? "" : result.error().message());
  return message;
}

}  // namespace

CharterKeeper::CharterKeeper(net::Loop& loop, Options options, Cluster& cluster, Changed changed)
    : loop_(loop),
      options_(std::move(options)),
      cluster_(cluster),
      changed_(std::move(changed)),
      stage_timer_(loop),
      again_(loop) {}

Result<> CharterKeeper::start() {
  const std::string path = options_.state_dir + "/charter";
  if (!std::filesystem::exists(path)) {
    // The cluster's first key, before anybody has changed it.
    TESS_TRY_ASSIGN(const ClusterIdentity identity, load_cluster_identity(options_.state_dir));
    charter_.keys = {identity.key};
    return {};
  }
  TESS_TRY_ASSIGN(const std::string ca, sys::read_file(options_.state_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(path));
  auto charter = Charter::parse(text, ca);
  if (!charter) {
    return fail_with(std::move(charter.error()), "read {}", path);
  }
  charter_ = std::move(*charter);
  text_ = text;
  if (charter_.stage != Charter::Stage::kSettled &&
      std::filesystem::exists(options_.state_dir + "/ca.key")) {
    loop_.post([this] { spread(); });
  }
  return {};
}

void CharterKeeper::change(const std::vector<Charter::Expelled>& expelled, const Done& done) {
  if (!std::filesystem::exists(options_.state_dir + "/ca.key")) {
    done(fail(ErrorKind::kNotPossible,
              "this node does not hold the cluster's CA (ca.key): do it where the cluster was "
              "made"));
    return;
  }
  if (charter_.stage != Charter::Stage::kSettled) {
    done(fail(ErrorKind::kRetry, "the cluster's key is being changed just now; try again soon"));
    return;
  }
  Charter next = charter_;
  next.stage = Charter::Stage::kSpread;
  net::fill_random(next.keys.emplace_back().data(), Charter::Key().size());
  next.expelled.insert(next.expelled.end(), expelled.begin(), expelled.end());
  if (auto issued = issue(std::move(next)); !issued) {
    done(std::move(issued));
    return;
  }
  done_.push_back(done);
  spread();
}

Result<> CharterKeeper::issue(Charter next) {
  ++next.serial;
  TESS_TRY_ASSIGN(const std::string key, sys::read_file(options_.state_dir + "/ca.key"));
  TESS_TRY_ASSIGN(const std::string text, next.text(key));
  return install(text);
}

Result<> CharterKeeper::install(const std::string& text) {
  TESS_TRY_ASSIGN(const std::string ca, sys::read_file(options_.state_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(Charter charter, Charter::parse(text, ca));
  if (charter.serial <= charter_.serial) {
    return {};  // an old one, come late
  }
  TESS_TRY(sys::replace_file(options_.state_dir + "/charter", text, 0600));
  // What `tess init --out` hands out.
  const auto& first = charter.keys.front();
  TESS_TRY(sys::replace_file(options_.state_dir + "/cluster.key",
                             wire::to_hex(std::string(first.begin(), first.end())) + "\n", 0600));
  charter_ = std::move(charter);
  text_ = text;
  log::info("node", "event=charter serial={} keys={} expelled={}", charter_.serial,
            charter_.keys.size(), charter_.expelled.size());
  changed_(charter_);
  return {};
}

// To all that are up; the stage ends when they have confirmed, or its time has passed.
void CharterKeeper::spread() {
  waiting_for_ = charter_.serial;
  unconfirmed_.clear();
  for (const auto& node : cluster_.nodes()) {
    if (node.up) {
      unconfirmed_.insert(node.name);
    }
  }
  // Without anybody to wait for at once, but not from within a caller who has just asked.
  stage_timer_.start(unconfirmed_.empty() ? milliseconds(0) : options_.stage_time,
                     [this] { next_stage(); });
  const auto names = unconfirmed_;
  for (const std::string& name : names) {
    tell(name);
  }
}

// Again and again while the node is up: who comes back up says what it has (on_peer).
void CharterKeeper::tell(const std::string& node) {
  wire::ClusterMessage ask;
  ask.mutable_charter()->set_text(text_);
  cluster_.ask(
      node, std::move(ask), kTellTimeout,
      [this, node, serial = charter_.serial](const auto& answer) {
        const bool confirmed = answer && answer->done().ok();
        if (!confirmed && cluster_.check_up(node)) {
          log::warn("node", "event=charter_not_confirmed node={} serial={} reason=\"{}\"", node,
                    serial, answer ? answer->done().message() : answer.error().message());
          behind_.insert(node);
          again_.start(kTellAgain, [this] { tell_again(); });
        } else if (serial == waiting_for_ && unconfirmed_.erase(node) > 0 && unconfirmed_.empty()) {
          stage_timer_.start(milliseconds(0), [this] { next_stage(); });
        }
      });
}

void CharterKeeper::tell_again() {
  for (const std::string& node : std::exchange(behind_, {})) {
    tell(node);
  }
}

void CharterKeeper::next_stage() {
  stage_timer_.stop();
  waiting_for_ = 0;
  Charter next = charter_;
  switch (charter_.stage) {
    case Charter::Stage::kSettled:
      finish({});
      return;
    case Charter::Stage::kSpread:
      std::swap(next.keys[0], next.keys[1]);
      next.stage = Charter::Stage::kUse;
      break;
    case Charter::Stage::kUse:
      next.keys.pop_back();
      next.stage = Charter::Stage::kSettled;
      break;
  }
  if (auto issued = issue(std::move(next)); !issued) {
    log::error("node", "event=charter_failed reason=\"{}\"", issued.error().message());
    finish(std::move(issued));
    return;
  }
  spread();
}

void CharterKeeper::finish(Result<> result) {
  for (const Done& one : std::exchange(done_, {})) {
    one(result);
  }
}

void CharterKeeper::on_peer(const std::string& node, uint64_t serial) {
  if (serial < charter_.serial) {
    tell(node);
    return;
  }
  if (serial == charter_.serial) {
    return;
  }
  wire::ClusterMessage ask;
  ask.mutable_ask_charter();
  cluster_.ask(node, std::move(ask), kTellTimeout, [this, node](auto answer) {
    if (!answer || !answer->has_charter()) {
      return;
    }
    if (const auto installed = install(answer->charter().text()); !installed) {
      log::warn("node", "event=charter_refused node={} reason=\"{}\"", node,
                installed.error().message());
    }
  });
}

bool CharterKeeper::answer(const wire::ClusterMessage& message, const std::string& asker,
                           const Reply& reply) {
  if (message.has_ask_charter()) {
    wire::ClusterMessage answer;
    answer.mutable_charter()->set_text(text_);
    reply(answer);
    return true;
  }
  if (!message.has_charter()) {
    return false;
  }
  const auto installed = install(message.charter().text());
  if (!installed) {
    log::warn("node", "event=charter_refused node={} reason=\"{}\"", asker,
              installed.error().message());
  }
  reply(done(installed));
  return true;
}

}  // namespace tess::node
