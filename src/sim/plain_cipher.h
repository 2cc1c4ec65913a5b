// PlainCipher: keeps Cipher's promises about changed and foreign packets with a keyed checksum
// instead of cryptography, so that ten thousand nodes can be simulated. Texts stay readable; for
// simulated worlds only.
#pragma once

#include <cstring>

#include "cluster/cipher.h"
#include "cluster/random.h"

namespace tess::sim {

class PlainCipher final : public cluster::Cipher {
 public:
  cluster::CipherKey derive(const cluster::CipherKey& ring_key, uint64_t session) override {
    cluster::CipherKey out{};
    uint64_t seed = session;
    for (const uint8_t byte : ring_key) {
      seed = seed * 0x100000001b3ull + byte;
    }
    cluster::Random random(seed);
    for (uint8_t& byte : out) {
      byte = static_cast<uint8_t>(random.next());
    }
    return out;
  }

  void seal(const cluster::CipherKey& key, uint64_t counter, cluster::Bytes associated,
            std::span<uint8_t> text, std::span<uint8_t, cluster::kTagSize> tag) override {
    const auto sum = checksum(key, counter, associated, text);
    std::memcpy(tag.data(), sum.data(), tag.size());
  }

  bool open(const cluster::CipherKey& key, uint64_t counter, cluster::Bytes associated,
            std::span<uint8_t> text, std::span<const uint8_t, cluster::kTagSize> tag) override {
    const auto sum = checksum(key, counter, associated, text);
    return std::memcmp(tag.data(), sum.data(), tag.size()) == 0;
  }

 private:
  static std::array<uint8_t, cluster::kTagSize> checksum(const cluster::CipherKey& key,
                                                         uint64_t counter,
                                                         cluster::Bytes associated,
                                                         cluster::Bytes text) {
    uint64_t sum = counter * 0x9e3779b97f4a7c15ull;
    const auto add = [&](cluster::Bytes bytes) {
      size_t at = 0;
      for (; at + 8 <= bytes.size(); at += 8) {
        uint64_t word = 0;
        std::memcpy(&word, bytes.data() + at, 8);
        sum = (sum ^ word) * 0xff51afd7ed558ccdull;
        sum ^= sum >> 32;
      }
      for (; at < bytes.size(); ++at) {
        sum = (sum ^ bytes[at]) * 0x100000001b3ull;
      }
    };
    add(key);
    add(associated);
    add(text);
    cluster::Random random(sum);
    std::array<uint8_t, cluster::kTagSize> out{};
    for (size_t i = 0; i < out.size(); i += 8) {
      const uint64_t word = random.next();
      std::memcpy(out.data() + i, &word, 8);
    }
    return out;
  }
};

}  // namespace tess::sim
