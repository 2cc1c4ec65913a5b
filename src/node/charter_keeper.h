// CharterKeeper: this node's copy of the cluster's charter (net/charter.h): takes newer ones, keeps
// them on disk before they take effect, tells others, and, where the CA is, makes new ones and
// leads a change of keys through its stages: a stage is left when every node that is up has
// confirmed it, or the time for it is over (who was away learns of it by TLS when it is back). Loop
// thread only.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "net/charter.h"
#include "net/loop.h"
#include "node/cluster.h"

namespace tess::node {

class CharterKeeper {
 public:
  struct Options {
    std::string state_dir;
    std::chrono::milliseconds stage_time{20'000};  // at most, if somebody does not confirm
  };
  using Changed = std::function<void(const net::Charter&)>;
  using Reply = std::function<void(const wire::ClusterMessage&)>;

  // `changed` after each new charter, once it is on disk.
  CharterKeeper(net::Loop& loop, Options options, Cluster& cluster, Changed changed);

  // Reads what is on disk; goes on with a change of keys that was begun.
  Result<> start();
  const net::Charter& charter() const { return charter_; }
  const std::string& text() const { return text_; }

  // Both need the CA. `done` comes when the change has taken effect everywhere it can.
  using Done = std::function<void(Result<>)>;
  void rotate_key(const Done& done) { change({}, done); }
  void expel(const std::vector<net::Charter::Expelled>& whom, const Done& done) {
    change(whom, done);
  }

  // A node that we are connected with says which charter it has.
  void on_peer(const std::string& node, uint64_t serial);
  // False: not a message about charters.
  bool answer(const wire::ClusterMessage& message, const std::string& asker, const Reply& reply);

 private:
  void change(const std::vector<net::Charter::Expelled>& expelled, const Done& done);
  Result<> issue(net::Charter next);
  Result<> install(const std::string& text);
  void tell(const std::string& node);
  void tell_again();
  void spread();
  void next_stage();
  void finish(Result<> result);

  net::Loop& loop_;
  Options options_;
  Cluster& cluster_;
  Changed changed_;
  net::Charter charter_;
  std::string text_;  // empty: none yet
  net::Timer stage_timer_;
  net::Timer again_;
  std::set<std::string> behind_;       // up, but have not confirmed
  uint64_t waiting_for_ = 0;           // serial of the stage that is being confirmed
  std::set<std::string> unconfirmed_;  // of that stage
  std::vector<Done> done_;
};

}  // namespace tess::node
