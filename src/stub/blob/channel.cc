// The syscall channel's byte stream: records of up to 64 KiB, each sealed with AES-128-GCM (NIST SP
// 800-38D) built from BearSSL's AES-NI CTR and PCLMUL GHASH primitives, whose usual wrapper needs
// tables of pointers that a blob without relocations cannot hold.
#include <bearssl.h>

#include "stub/blob/core.h"
#include "stub/repeat.h"

namespace tess::stub {
namespace {

inline constexpr uint32_t kTagSize = 16;
inline constexpr uint32_t kSendBufferPayload = 4;  // record length precedes the payload

struct CtrKeys {  // the part of br_aes_x86ni_ctr_keys that its code reads
  br_aes_x86ni_ctr_keys keys;
};

void load_keys(CtrKeys& to, const uint8_t round_keys[176]) {
  to.keys.vtable = nullptr;
  memcpy(to.keys.skey.skni, round_keys, 176);
  to.keys.num_rounds = 10;
}

void make_nonce(uint8_t nonce[12], uint64_t counter) {
  memset(nonce, 0, 4);
  memcpy(nonce + 4, &counter, 8);
}

void gcm_tag(const CtrKeys& keys, const uint8_t hash_key[16], const uint8_t nonce[12],
             const uint8_t aad[4], const uint8_t* data, size_t n, uint8_t tag[16]) {
  uint8_t y[16];
  memset(y, 0, sizeof(y));
  br_ghash_pclmul(y, hash_key, aad, 4);
  br_ghash_pclmul(y, hash_key, data, n);
  uint8_t lengths[16];
  memset(lengths, 0, sizeof(lengths));
  lengths[7] = 32;  // bits of additional data
  const uint64_t bits = __builtin_bswap64((uint64_t)n * 8);
  memcpy(lengths + 8, &bits, 8);
  br_ghash_pclmul(y, hash_key, lengths, sizeof(lengths));
  br_aes_x86ni_ctr_run(&keys.keys, nonce, 1, y, sizeof(y));  // E(K, J0) xor S
  memcpy(tag, y, 16);
}

uint8_t* send_buffer(Slot* slot) {
  return reinterpret_cast<uint8_t*>(slot) + kSlotSendOffset;
}
uint8_t* receive_buffer(Slot* slot) {
  return reinterpret_cast<uint8_t*>(slot) + kSlotReceiveOffset;
}
inline constexpr uint32_t kReceiveCapacity = kSlotArenaOffset - kSlotReceiveOffset;

void send_raw(Slot* slot, const uint8_t* data, size_t n) {
  constexpr int kNoSignal = 0x4000;
  while (n > 0) {
    const long sent = sys(__NR_sendto, slot->channel_fd, data, n, kNoSignal, 0, 0);
    if (sent == kEintr) {
      continue;
    }
    if (sent <= 0) {
      priv(slot).lost = 1;
      return;
    }
    data += sent;
    n -= (size_t)sent;
  }
}

// Receives at least one byte more. A kick does not disturb a message under way.
bool receive_more(Slot* slot) {
  SlotPrivate& p = priv(slot);
  uint8_t* buffer = receive_buffer(slot);
  if (p.raw_end == kReceiveCapacity) {
    memmove(buffer, buffer + p.raw_begin, p.raw_end - p.raw_begin);
    p.raw_end -= p.raw_begin;
    p.raw_begin = 0;
  }
  while (true) {
    const long n = sys(__NR_recvfrom, slot->channel_fd, buffer + p.raw_end,
                       kReceiveCapacity - p.raw_end, 0, 0, 0);
    if (n == kEintr) {
      continue;
    }
    if (n <= 0) {
      p.lost = 1;
      return false;
    }
    p.raw_end += (uint32_t)n;
    return true;
  }
}

bool next_record(Slot* slot) {
  SlotPrivate& p = priv(slot);
  uint8_t* buffer = receive_buffer(slot);
  if (p.raw_begin == p.raw_end) {
    p.raw_begin = p.raw_end = 0;
  }
  while (p.raw_end - p.raw_begin < 4) {
    if (!receive_more(slot)) {
      return false;
    }
  }
  uint8_t aad[4];
  memcpy(aad, buffer + p.raw_begin, 4);
  uint32_t length;
  memcpy(&length, aad, 4);
  const uint32_t tag = slot->keys.encrypted != 0 ? kTagSize : 0;
  if (length < tag || length > kRecordPayloadMax + tag) {
    p.lost = 1;
    return false;
  }
  if (p.raw_begin + 4 + length > kReceiveCapacity) {  // room for the rest
    memmove(buffer, buffer + p.raw_begin, p.raw_end - p.raw_begin);
    p.raw_end -= p.raw_begin;
    p.raw_begin = 0;
  }
  while (p.raw_end - p.raw_begin < 4 + length) {
    if (!receive_more(slot)) {
      return false;
    }
  }
  uint8_t* data = buffer + p.raw_begin + 4;
  const uint32_t n = length - tag;
  if (tag != 0 && !unseal(slot->keys, data, n, aad, data + n)) {
    p.lost = 1;
    return false;
  }
  p.plain_begin = p.raw_begin + 4;
  p.plain_end = p.plain_begin + n;
  p.raw_begin += 4 + length;
  return true;
}

void flush_record(Slot* slot) {
  SlotPrivate& p = priv(slot);
  if (p.send_used == 0) {
    return;
  }
  uint8_t* buffer = send_buffer(slot);
  uint32_t length = p.send_used;
  if (slot->keys.encrypted != 0) {
    length += kTagSize;
    memcpy(buffer, &length, 4);
    seal(slot->keys, buffer + 4, p.send_used, buffer, buffer + 4 + p.send_used);
  } else {
    memcpy(buffer, &length, 4);
  }
  p.send_used = 0;
  if (p.lost == 0) {
    send_raw(slot, buffer, 4 + length);
  }
}

}  // namespace

bool seal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4], uint8_t tag[16]) {
  CtrKeys ctr;
  load_keys(ctr, keys.send_round_keys);
  uint8_t nonce[12];
  make_nonce(nonce, keys.send_counter++);
  br_aes_x86ni_ctr_run(&ctr.keys, nonce, 2, data, n);
  gcm_tag(ctr, keys.send_hash_key, nonce, aad, data, n, tag);
  return true;
}

bool unseal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4],
            const uint8_t tag[16]) {
  CtrKeys ctr;
  load_keys(ctr, keys.receive_round_keys);
  uint8_t nonce[12];
  make_nonce(nonce, keys.receive_counter++);
  uint8_t wanted[16];
  gcm_tag(ctr, keys.receive_hash_key, nonce, aad, data, n, wanted);
  uint8_t difference = 0;
  for (int i = 0; i < 16; ++i) {
    difference |= (uint8_t)(wanted[i] ^ tag[i]);
  }
  if (difference != 0) {
    return false;
  }
  br_aes_x86ni_ctr_run(&ctr.keys, nonce, 2, data, n);
  return true;
}

void channel_reset(Slot* slot) {
  SlotPrivate& p = priv(slot);
  p.raw_begin = p.raw_end = p.plain_begin = p.plain_end = p.send_used = p.lost = 0;
}

void send_bytes(Slot* slot, const void* from, size_t n) {
  SlotPrivate& p = priv(slot);
  const uint8_t* bytes = static_cast<const uint8_t*>(from);
  while (n > 0) {
    const size_t room = kRecordPayloadMax - p.send_used;
    const size_t part = n < room ? n : room;
    memcpy(send_buffer(slot) + kSendBufferPayload + p.send_used, bytes, part);
    p.send_used += (uint32_t)part;
    bytes += part;
    n -= part;
    if (p.send_used == kRecordPayloadMax) {
      flush_record(slot);
    }
  }
}

bool send_bytes_from_app(Slot* slot, uint64_t from, size_t n) {
  SlotPrivate& p = priv(slot);
  bool good = true;
  while (n > 0) {
    const size_t room = kRecordPayloadMax - p.send_used;
    const size_t part = n < room ? n : room;
    uint8_t* to = send_buffer(slot) + kSendBufferPayload + p.send_used;
    const size_t missing = tess_copy(to, reinterpret_cast<const void*>(from), part);
    if (missing != 0) {
      memset(to + (part - missing), 0, missing);
      good = false;
    }
    p.send_used += (uint32_t)part;
    from += part;
    n -= part;
    if (p.send_used == kRecordPayloadMax) {
      flush_record(slot);
    }
  }
  return good;
}

void send_flush(Slot* slot) {
  flush_record(slot);
}

bool receive_bytes(Slot* slot, void* to, size_t n) {
  SlotPrivate& p = priv(slot);
  uint8_t* bytes = static_cast<uint8_t*>(to);
  while (n > 0) {
    if (p.lost != 0) {
      return false;
    }
    if (p.plain_begin == p.plain_end && !next_record(slot)) {
      return false;
    }
    const size_t have = p.plain_end - p.plain_begin;
    const size_t part = n < have ? n : have;
    memcpy(bytes, receive_buffer(slot) + p.plain_begin, part);
    p.plain_begin += (uint32_t)part;
    bytes += part;
    n -= part;
  }
  return true;
}

long receive_wait(Slot* slot, uint64_t mask) {
  SlotPrivate& p = priv(slot);
  if (p.lost != 0) {
    return -1;
  }
  if (p.plain_begin != p.plain_end || p.raw_begin != p.raw_end) {
    return 0;
  }
  p.raw_begin = p.raw_end = 0;
  const uint64_t args[7] = {
      (uint64_t)slot->channel_fd, (uint64_t)receive_buffer(slot), kReceiveCapacity, 0, 0, 0, mask};
  const long n = tess_cp_syscall(&slot->pending, __NR_recvfrom, args);
  if (n == kAborted || n == kCutShort || n == kEintr) {
    return kAborted;
  }
  if (n <= 0) {
    p.lost = 1;
    return -1;
  }
  p.raw_end = (uint32_t)n;
  return 0;
}

}  // namespace tess::stub
