// What several tests of this folder need.
#pragma once

#include "cluster/cipher.h"
#include "cluster/member_table.h"
#include "cluster/packet.h"

namespace tess::cluster {

inline NodeId node_id(uint64_t n) {
  NodeId id;
  Random random(n);
  for (uint8_t& byte : id.bytes) {
    byte = static_cast<uint8_t>(random.next());
  }
  return id;
}

inline AliveRecord alive_record(uint64_t n, uint32_t incarnation) {
  AliveRecord record;
  record.incarnation = incarnation;
  record.profile.id = node_id(n);
  record.profile.session = n * 1000 + 1;
  record.profile.address = Address::v4(0x0a000000 + static_cast<uint32_t>(n), 7117);
  record.profile.name = "n" + std::to_string(n);
  return record;
}

}  // namespace tess::cluster
