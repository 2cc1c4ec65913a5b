// Proof that a short secret is known, such that who checks it need not know the secret: the secret
// is the seed of an Ed25519 key; the checker keeps the public half, which is of no use for proving.
// docs/adr/0006 has the reasons.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tess::net {

using Secret = std::array<uint8_t, 16>;
using Verifier = std::array<uint8_t, 32>;

// `context` separates uses: the same secret has another key in each.
Result<Verifier> verifier_of(const Secret& secret, std::string_view context);
// A signature over `message`, 64 bytes.
Result<std::string> prove(const Secret& secret, std::string_view context, std::string_view message);
bool check_proof(const Verifier& verifier, std::string_view message, std::string_view proof);

std::array<uint8_t, 32> sha256(std::string_view bytes);
// Random bytes for keys and secrets.
void fill_random(void* into, size_t size);

// Signatures by the CA's key (ECDSA) over what the whole cluster has to believe.
Result<std::string> sign_with_key(const std::string& key_pem, std::string_view message);
bool check_signature(const std::string& certificate_pem, std::string_view message,
                     std::string_view signature);

}  // namespace tess::net
