#include "cluster/envelope.h"

#include "cluster/packet.h"

namespace tess::cluster {
namespace {

constexpr uint8_t kMagic = 0xc7;
constexpr size_t kDerivedSlots = 64;

// Header and, bound or not, the session it is for: what the tag covers besides the text.
std::array<uint8_t, kHeaderSize + 8> associated_of(Bytes header, uint64_t to_session) {
  std::array<uint8_t, kHeaderSize + 8> out{};
  ByteWriter writer(out);
  writer.bytes(header);
  writer.u64(to_session);
  return out;
}

// The part of a session that stands in clear; 0 is kept for packets that are for anyone.
uint16_t tag_of(uint64_t session) {
  const auto tag = static_cast<uint16_t>(session);
  return tag == 0 ? 1 : tag;
}

}  // namespace

const char* to_text(Drop drop) {
  static constexpr const char* kText[kDropCount] = {
      "truncated",   "too_long",       "foreign",     "version",  "other_cluster",
      "unknown_key", "other_session",  "forged",      "replayed", "malformed",
      "stale",       "unknown_sender", "old_session", "own"};
  return kText[static_cast<size_t>(drop)];
}

Result<> KeyRing::install(const CipherKey& key) {
  if (std::find(keys_.begin(), keys_.end(), key) != keys_.end()) {
    return {};
  }
  if (keys_.size() >= kMost) {
    return fail(ErrorKind::kNotPossible, "the key ring is full: remove an old key first");
  }
  keys_.push_back(key);
  return {};
}

Result<> KeyRing::use(const CipherKey& key) {
  const auto at = std::find(keys_.begin(), keys_.end(), key);
  if (at == keys_.end()) {
    return fail(ErrorKind::kNotPossible, "the key is not in the ring: install it first");
  }
  std::rotate(keys_.begin(), at, at + 1);
  return {};
}

Result<> KeyRing::remove(const CipherKey& key) {
  const auto at = std::find(keys_.begin(), keys_.end(), key);
  if (at == keys_.end()) {
    return fail(ErrorKind::kNotPossible, "the key is not in the ring");
  }
  if (at == keys_.begin()) {
    return fail(ErrorKind::kNotPossible, "the key is in use: use another one first");
  }
  keys_.erase(at);
  return {};
}

bool ReplayWindow::admit(uint64_t counter) {
  if (counter > newest) {
    const uint64_t step = counter - newest;
    seen = step < 64 ? seen << step : 0;
    seen |= 1;
    newest = counter;
    return true;
  }
  const uint64_t back = newest - counter;
  if (back >= 64 || (seen >> back & 1) != 0) {
    return false;
  }
  seen |= uint64_t{1} << back;
  return true;
}

Envelope::Envelope(Cipher& cipher, KeyRing ring, uint32_t cluster, uint64_t session)
    : cipher_(cipher), ring_(ring), cluster_(cluster), session_(session) {
  TESS_CHECK(session != 0, "a session of 0");
  set_keys(std::move(ring));
}

void Envelope::set_keys(KeyRing ring) {
  ring_ = std::move(ring);
  keys_.clear();
  derived_.clear();
  for (const CipherKey& key : ring_.keys()) {
    const CipherKey name = cipher_.derive(key, 0);
    keys_.push_back(
        {key, static_cast<uint16_t>(name[0] << 8 | name[1]), cipher_.derive(key, session_)});
  }
}

std::span<uint8_t> Envelope::plaintext_room() {
  return std::span(out_).subspan(kHeaderSize, out_.size() - kHeaderSize - kTagSize);
}

Bytes Envelope::seal(size_t size, uint64_t to_session) {
  TESS_CHECK(size <= plaintext_room().size(), "a packet of {} bytes", size);
  ++counter_;
  const std::span all(out_);
  ByteWriter header(all.first(kHeaderSize));
  header.u8(kMagic);
  header.u8(kFormatMajor << 4 | kFormatMinor);
  header.u16(keys_.front().id);
  header.u32(cluster_);
  header.u64(session_);
  header.u16(to_session == 0 ? 0 : tag_of(to_session));
  header.u48(counter_);
  const auto associated = associated_of(header.written(), to_session);
  cipher_.seal(keys_.front().own, counter_, associated, all.subspan(kHeaderSize, size),
               all.subspan(kHeaderSize + size).first<kTagSize>());
  return Bytes(all.first(kHeaderSize + size + kTagSize));
}

const CipherKey& Envelope::key_for(size_t ring_index, uint64_t session, Derived& fresh) {
  if (!derived_.empty()) {
    const Derived& kept = derived_[session % kDerivedSlots];
    if (kept.session == session && kept.ring_index == ring_index) {
      return kept.key;
    }
  }
  fresh = {session, ring_index, cipher_.derive(keys_[ring_index].key, session)};
  return fresh.key;
}

tl::expected<Envelope::Opened, Drop> Envelope::open(Bytes datagram) {
  if (datagram.size() < kHeaderSize + kTagSize) {
    return tl::unexpected(Drop::kTruncated);
  }
  if (datagram.size() > in_.size()) {
    return tl::unexpected(Drop::kTooLong);
  }
  ByteReader header(datagram.first(kHeaderSize));
  if (header.u8() != kMagic) {
    return tl::unexpected(Drop::kForeign);
  }
  if (header.u8() >> 4 != kFormatMajor) {
    return tl::unexpected(Drop::kVersion);
  }
  const uint16_t key_id = header.u16();
  if (header.u32() != cluster_) {
    return tl::unexpected(Drop::kOtherCluster);
  }
  Opened out;
  out.session = header.u64();
  const uint16_t to_tag = header.u16();
  out.counter = header.u48();
  out.bound = to_tag != 0;
  if (out.session == session_) {
    return tl::unexpected(Drop::kOwn);
  }
  if (out.bound && to_tag != tag_of(session_)) {
    return tl::unexpected(Drop::kOtherSession);
  }
  const auto associated = associated_of(datagram.first(kHeaderSize), out.bound ? session_ : 0);
  const size_t size = datagram.size() - kHeaderSize - kTagSize;
  const auto tag = datagram.last<kTagSize>();
  bool known = false;
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].id != key_id) {
      continue;
    }
    known = true;
    const Bytes text = datagram.subspan(kHeaderSize, size);
    std::copy(text.begin(), text.end(), in_.begin());
    Derived fresh;
    const CipherKey& key = key_for(i, out.session, fresh);
    if (cipher_.open(key, out.counter, associated, std::span(in_).first(size), tag)) {
      if (fresh.session != 0) {
        derived_.resize(kDerivedSlots);
        derived_[out.session % kDerivedSlots] = fresh;
      }
      out.plaintext = Bytes(in_).first(size);
      return out;
    }
  }
  return tl::unexpected(known ? Drop::kForged : Drop::kUnknownKey);
}

}  // namespace tess::cluster
