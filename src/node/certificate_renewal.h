// CertificateRenewal: has this node's certificate renewed, for the same key, before it ends: by the
// CA if it is here, else by a node that has it, over TLS. Answers such requests where the CA is.
// Connections in use go on; new ones show the new certificate. Certificates last long enough that
// an agent, which reads it when it starts, need not care. Loop thread only.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>

#include "net/certificate.h"
#include "net/loop.h"
#include "node/admission.h"
#include "node/cluster.h"

namespace tess::node {

class CertificateRenewal {
 public:
  struct Options {
    std::string state_dir;
    std::string node_name;
    std::chrono::milliseconds check_interval{60 * 60 * 1000};
  };
  using Done = std::function<void(Result<>)>;
  using Reply = std::function<void(const wire::ClusterMessage&)>;

  // `changed` after the new certificate is on disk.
  CertificateRenewal(net::Loop& loop, Options options, Cluster& cluster, Admission& admission,
                     std::function<void()> changed);

  // Less than a third of its time is left.
  static bool is_due(const net::Validity& validity);
  // Looks at once, and then every hour.
  void start();
  void on_peer(const std::string& node, bool holds_ca);
  void renew(const Done& done);
  // A certificate for this node's key under that name, which the holder of the CA must allow.
  void fetch(const std::string& name, const std::function<void(const Result<std::string>&)>& then);
  // False: not a message about certificates.
  bool answer(const wire::ClusterMessage& message, const std::string& asker, const Reply& reply);

 private:
  void look();
  Result<std::string> sign(const std::string& asker, const std::string& name,
                           const std::string& request);
  Result<> take(const std::string& certificate);

  Options options_;
  Cluster& cluster_;
  Admission& admission_;
  std::function<void()> changed_;
  net::Timer timer_;
  std::set<std::string> holders_;  // of the CA
};

}  // namespace tess::node
