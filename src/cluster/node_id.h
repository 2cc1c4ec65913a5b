// NodeId: who a node is. The first 16 bytes of the SHA-256 fingerprint of its certificate's public
// key, so a renewed certificate for the same key is the same node, and an address or a name never
// is one. A plain value.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace tess::cluster {

struct NodeId {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const NodeId&) const = default;
  bool empty() const { return *this == NodeId{}; }

  // The first eight bytes: how packets refer to a node that both sides know.
  uint64_t key() const {
    uint64_t value = 0;
    for (size_t i = 0; i < 8; ++i) {
      value = value << 8 | bytes[i];
    }
    return value;
  }

  // The first five: how loads refer to it. Two nodes of a cluster of 10,000 share them once in
  // 20,000 clusters.
  static uint64_t shorten(uint64_t key) { return key >> 24; }

  // 32 hexadecimal digits.
  std::string text() const;
};

}  // namespace tess::cluster

template <>
struct std::hash<tess::cluster::NodeId> {
  size_t operator()(const tess::cluster::NodeId& id) const noexcept { return id.key(); }
};
