// Memberships that talk to each other without a world around them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "cluster/membership.h"
#include "cluster/test_util.h"

namespace tess::cluster {

class TwoMembersTest : public ::testing::Test {
 protected:
  std::unique_ptr<Membership> make(uint64_t n, uint64_t session, const LoadRecord& load,
                                   uint64_t seed) {
    CipherKey key;
    key.fill(7);
    Config config;
    config.beacons = false;
    Identity identity;
    identity.id = node_id(n);
    identity.session = session;
    identity.name = "n" + std::to_string(n);
    identity.address = address_of(n);
    identity.cluster = 5;
    return std::make_unique<Membership>(config, identity, load, KeyRing(key), *cipher_, directory_,
                                        Random(seed), now_);
  }
  static Address address_of(uint64_t n) {
    return Address::v4(0x0a000000 + static_cast<uint32_t>(n), 7117);
  }
  // What `from` wants sent, handed to `to`; the number of packets.
  size_t carry(Effects& effects, Membership& to, const Address& from, Effects& answers) const {
    const size_t count = effects.sends.size();
    for (const Effects::Send& send : effects.sends) {
      to.receive(now_, Duration(0), from, effects.datagram(send), answers);
    }
    effects.clear();
    return count;
  }

  std::unique_ptr<Cipher> cipher_ = make_openssl_cipher();
  Directory directory_;
  Time now_{std::chrono::hours(3)};
};

}  // namespace tess::cluster
