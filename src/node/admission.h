// Admission: lets machines join, on a node that holds the CA (ca.key): makes tokens, answers
// requests that come with one, and keeps those that come without until a person approves them. What
// it needs to know of the cluster comes by Environment. Loop thread only.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/admission_book.h"
#include "node/config.h"
#include "node/join_token.h"
#include "wire/join.pb.h"

namespace tess::node {

// Who asks, as the connection knows it.
struct JoinPeer {
  std::string session_secret;
  std::string address;        // numeric
  std::string local_address;  // where it reached us
};

class Admission {
 public:
  using Reply = std::function<void(const wire::JoinAnswer&)>;
  struct Environment {
    std::string state_dir;
    std::string node_name;
    std::function<int64_t()> now;  // seconds since 1970
    std::function<NameUse(const std::string& name)> name_use;
    // Whom a new node should ask first, this node (as reached at `local_address`) first of all.
    std::function<std::vector<NodeEntry>(const std::string& local_address)> seeds;
  };
  struct TokenWish {
    uint32_t uses = 1;  // 0: any number
    std::chrono::seconds expires{3600};
    bool media = false;
    bool replaces = false;
    std::vector<IpRange> from;
    std::vector<net::Endpoint> addresses;  // where it finds this node
  };
  struct Pending {
    std::string name;
    std::string address;
    net::KeyPrint key{};
    std::string request;
    int64_t since = 0;
    bool approved = false;
    Reply reply;
  };
  static constexpr size_t kMostPending = 64;
  static constexpr int64_t kPendingSeconds = 3600;

  explicit Admission(Environment environment) : environment_(std::move(environment)) {}

  bool holds_ca() const;
  // The token's text: shown once, kept nowhere. kNotPossible where the CA is not.
  Result<std::string> make_token(const TokenWish& wish);
  Result<AdmissionBook> book() const { return AdmissionBook::load(environment_.state_dir); }
  Result<size_t> revoke_token(const std::string& id_hex);
  Result<net::KeyPrint> ca_print() const;
  // The node of this name has gone for good; nothing to do where the CA is not.
  // May the node of this name have a new certificate for this key? Not for another than it was
  // admitted with.
  Result<> check_renewal(const std::string& name, const net::KeyPrint& key) const;
  // `node` may take that name within the next minutes; kNotPossible if somebody has it.
  Result<> allow_rename(const std::string& node, const std::string& name);
  // It does: the name is its own from now on, the old one is free.
  Result<> use_rename(const std::string& node, const std::string& name, const net::KeyPrint& key);
  Result<> release(const std::string& name);

  // Calls `reply` once with the verdict, perhaps much later; once with Pending before that.
  void on_request(const wire::JoinRequest& request, const JoinPeer& peer, const Reply& reply);
  int64_t now() const { return environment_.now(); }
  const std::list<Pending>& pending();
  // `which`: a name, or the beginning of a key's fingerprint if two ask by one name.
  Result<std::string> approve(const std::string& which);
  Result<std::string> refuse(const std::string& which);

 private:
  Result<wire::JoinGranted> decide(const wire::JoinRequest& request, const JoinPeer& peer);
  Result<wire::JoinGranted> grant(const std::string& name, const std::string& request,
                                  const std::string& local_address) const;
  Result<std::string> charter_text() const;  // empty: there is none
  Result<net::KeyPrint> check(const wire::JoinRequest& request) const;
  void wait_for_approval(const wire::JoinRequest& request, const net::KeyPrint& key,
                         const JoinPeer& peer, const Reply& reply);
  Result<std::list<Pending>::iterator> find_pending(const std::string& which);

  Environment environment_;
  std::list<Pending> pending_;
  struct Rename {
    std::string name;
    int64_t until = 0;
  };
  std::map<std::string, Rename> renames_;  // by the name it has now
};

}  // namespace tess::node
