// CaRenewal: the certificate of the cluster's CA is renewed for the same key before it ends, by the
// node that has the key, and handed on to everybody over TLS: hellos say until when the one of a
// node lasts, and who finds an older one at the other end sends its own. What was signed before,
// and who knows the cluster by the CA's fingerprint, is not touched: the key stays. Loop thread
// only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "net/loop.h"
#include "node/cluster.h"

namespace tess::node {

class CaRenewal {
 public:
  struct Options {
    std::string state_dir;
    std::chrono::milliseconds check_interval{60 * 60 * 1000};
  };
  using Reply = std::function<void(const wire::ClusterMessage&)>;

  // `changed` after the new certificate is on disk.
  CaRenewal(net::Loop& loop, Options options, Cluster& cluster, std::function<void()> changed);

  // What to tell people if it has not been renewed in time; empty while it has a year or more.
  static std::string warning(const std::string& state_dir);
  std::string warning() const { return warning(options_.state_dir); }
  // Looks at once, and then every hour.
  void start();
  // Until when the certificate here lasts, in seconds since 1970; 0 if there is none.
  int64_t until() const;
  void on_peer(const std::string& node, int64_t until);
  // Now; kNotPossible where the CA's key is not.
  Result<> renew();
  // False: not a message about the CA's certificate.
  bool answer(const wire::ClusterMessage& message, const std::string& asker, const Reply& reply);

 private:
  void look();
  Result<> take(const std::string& certificate);
  void spread();

  Options options_;
  Cluster& cluster_;
  std::function<void()> changed_;
  net::Timer timer_;
  std::map<std::string, int64_t> peers_;  // until when theirs last, as they said
};

}  // namespace tess::node
