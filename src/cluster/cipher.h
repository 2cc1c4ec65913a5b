// Cipher: the cryptography that datagrams need, as an interface, so that the rest stays pure and
// the simulator can do without the arithmetic. openssl_cipher.h is the real one (AES-256-GCM,
// HMAC-SHA256).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "cluster/bytes.h"

namespace tess::cluster {

using CipherKey = std::array<uint8_t, 32>;
inline constexpr size_t kTagSize = 16;

class Cipher {
 public:
  virtual ~Cipher() = default;

  // The key for what one session sends, from a key of the ring. Different sessions give unrelated
  // keys, so a counter that begins at zero in each session never repeats a nonce. Session 0 gives
  // the bytes that a ring key is called by.
  virtual CipherKey derive(const CipherKey& ring_key, uint64_t session) = 0;

  // Encrypts `text` in place and writes its tag. `counter` is never used twice with one key.
  virtual void seal(const CipherKey& key, uint64_t counter, Bytes associated,
                    std::span<uint8_t> text, std::span<uint8_t, kTagSize> tag) = 0;

  // Decrypts `text` in place; false (and `text` worthless) if anything was changed.
  virtual bool open(const CipherKey& key, uint64_t counter, Bytes associated,
                    std::span<uint8_t> text, std::span<const uint8_t, kTagSize> tag) = 0;
};

std::unique_ptr<Cipher> make_openssl_cipher();

}  // namespace tess::cluster
