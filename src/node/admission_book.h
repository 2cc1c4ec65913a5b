// AdmissionBook: whom the holder of the CA has invited and admitted: tokens (never their secrets:
// only what checks a proof) and the certificates that were issued. One file, admission.json,
// written in one step before anything of it is told to anybody; so a token that was used is used,
// whatever happens next. Decisions are made here, without I/O but load and save.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/certificate.h"
#include "net/secret_proof.h"
#include "node/ip_range.h"

namespace tess::node {

struct TokenRecord {
  std::string id;
  net::Verifier verifier{};
  bool unlimited = false;  // may be used any number of times
  uint32_t uses_left = 1;
  uint32_t used = 0;
  std::string used_by;  // the last node that came by it
  bool media = false;   // lies in boot media: its nodes have no memory, and come back with new keys
  bool replaces = false;      // may take the name of a node that is gone
  int64_t made = 0;           // seconds since 1970, by the clock of this machine
  int64_t expires = 0;        // the same
  std::vector<IpRange> from;  // empty: from anywhere
};

struct IssuedRecord {
  std::string name;
  net::KeyPrint key{};
  int64_t at = 0;
  std::string token;  // id; empty: by hand
  bool media = false;
  bool released = false;  // that node has left or was expelled: its name may be given again
};

// What is known of a name besides the book.
enum class NameUse { kFree, kGone, kPresent };

class AdmissionBook {
 public:
  struct Asking {
    std::string token;  // id
    std::string name;
    net::KeyPrint key{};
    std::string address;  // numeric
    std::string transcript;
    std::string proof;
    NameUse name_use = NameUse::kFree;
    int64_t now = 0;
  };

  static Result<AdmissionBook> load(const std::string& dir);
  Result<> save(const std::string& dir) const;

  void add_token(TokenRecord token, int64_t now);
  // Forgets tokens whose id, in hex, begins so. kNotPossible if there is none.
  Result<size_t> revoke(const std::string& id_hex);
  const std::vector<TokenRecord>& tokens() const { return tokens_; }

  // May it come in? If so the token is used up by one and the key noted, to be saved before it is
  // told. Asking again with the same key changes nothing: an answer may have been lost.
  Result<> redeem(const Asking& asking);
  // Admitted by a person; only the name is checked.
  Result<> approve(const Asking& asking);
  const IssuedRecord* issued_to(const std::string& name) const;
  const std::vector<IssuedRecord>& issued() const { return issued_; }
  // The node has gone for good.
  void release(const std::string& name);
  // The node of that key is called `to` from now on; `from` is free.
  void rename(const std::string& from, const std::string& to, const net::KeyPrint& key,
              int64_t now);

 private:
  Result<> check_name(const Asking& asking, bool replaces) const;
  void note(const Asking& asking, bool media);

  std::vector<TokenRecord> tokens_;
  std::vector<IssuedRecord> issued_;
};

}  // namespace tess::node
