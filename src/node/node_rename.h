// NodeRename: `tess node rename`. Who a node is, is its key; its name stands in its certificate, so
// a new name is a new certificate for the same key, which only the node that holds the CA can make
// (docs/adr/0008). That node allows it and asks the other to take it; the other gets its
// certificate as in a renewal, writes it and its configuration, and starts anew: its guests go home
// first, its own processes come back. Loop thread only.
#pragma once

#include <functional>
#include <string>

#include "node/certificate_renewal.h"

namespace tess::node {

class NodeRename {
 public:
  struct Options {
    std::string state_dir;
    std::string config;  // path
    std::string node_name;
  };
  using Done = std::function<void(const Result<>&)>;
  using Reply = std::function<void(const wire::ClusterMessage&)>;

  // `restart`: ends this tessd as a stop does, and starts it again.
  NodeRename(Options options, Cluster& cluster, Admission& admission, CertificateRenewal& renewal,
             std::function<void()> restart);

  // Where the CA is. `done` when the node has taken its new name; it starts anew then.
  void rename(const std::string& node, const std::string& name, const Done& done);
  // False: not a message about names.
  bool answer(const wire::ClusterMessage& message, const std::string& asker, const Reply& reply);

  // A rename that was interrupted between its two files: the configuration follows the certificate.
  // To be called before either is read.
  static Result<> finish(const std::string& state_dir, const std::string& config);

 private:
  void take(const std::string& name, const Done& done);
  Result<> write(const std::string& name, const std::string& certificate) const;

  Options options_;
  Cluster& cluster_;
  Admission& admission_;
  CertificateRenewal& renewal_;
  std::function<void()> restart_;
};

// The text of a tessera.toml with another name for this node; everything else stays as it is.
Result<std::string> with_name(const std::string& config, const std::string& name);

}  // namespace tess::node
