// Charter: what all nodes of a cluster have to agree on at any time, signed by the CA's key: the
// keys of the datagrams, and who was expelled. A newer one (by serial) replaces an older one
// everywhere; a cluster that never changed a key and never expelled anybody has none. Values only.
// Text format: docs/formats/charter.md.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/certificate.h"

namespace tess::net {

struct Charter {
  using Key = std::array<uint8_t, 32>;
  using NodeId = std::array<uint8_t, 16>;  // the first half of the print of the node's key
  static constexpr size_t kMostExpelled = 4096;

  // How far a change of keys has come: all learn the new one (it is the second), all use it (the
  // old one is the second), the old one is gone.
  enum class Stage { kSettled, kSpread, kUse };

  struct Expelled {
    NodeId id{};
    std::string name;
    int64_t at = 0;  // seconds since 1970
    bool operator==(const Expelled&) const = default;
  };

  uint64_t serial = 0;
  Stage stage = Stage::kSettled;
  std::vector<Key> keys;  // the first seals, all open; one, or two while they change
  std::vector<Expelled> expelled;

  bool operator==(const Charter&) const = default;
  bool expels(const NodeId& id) const;
  // Signed with the CA's key.
  Result<std::string> text(const std::string& ca_key_pem) const;
  // kBadInput: damaged, or not signed by this CA.
  static Result<Charter> parse(const std::string& text, const std::string& ca_certificate_pem);
};

Charter::NodeId node_id_of(const KeyPrint& print);

}  // namespace tess::net
