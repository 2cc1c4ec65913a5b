// TlsEngine: TLS without I/O. Bytes of the wire go in and come out of buffers; who moves them (a
// blocking stream, an event loop) is not its business. Not thread-safe, with one exception that
// TlsStream needs: receive_space/received touch only the input buffer, so one thread may fill it
// while another calls write and take_output.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/tls_stream.h"

namespace tess::net {

class TlsEngine {
 public:
  enum class Side { kClient, kServer };

  static Result<std::unique_ptr<TlsEngine>> make(const TlsContext& context, Side side);
  ~TlsEngine();

  // Goes on with the handshake; true when it is complete (peer_name() is then known and checked
  // against the CA).
  Result<bool> handshake();
  const std::string& peer_name() const { return peer_name_; }
  // A server whose client has no certificate and wants to join; peer_name() is empty.
  bool joining() const { return joining_; }
  Result<KeyPrint> peer_ca() const;
  Result<std::string> session_secret() const;

  // Room for bytes from the wire, and how many were put there. received_end: the peer closed its
  // side.
  std::span<std::byte> receive_space();
  void received(size_t count);
  void received_end() { input_ended_ = true; }
  bool input_empty() const { return input_start_ == input_end_; }

  // Decrypted bytes, at most into.size(); 0: more input is needed. kDisconnected once the peer has
  // closed.
  Result<size_t> read(std::span<std::byte> into);
  bool decrypted_pending() const;

  // Encrypts all of it into the output.
  Result<> write(std::span<const std::byte> from);
  // Puts a close_notify into the output.
  void close();
  // Bytes for the wire, moved into `out` (whose capacity is recycled).
  void take_output(std::vector<std::byte>& out);
  bool has_output() const { return !output_.empty(); }

 private:
  struct Ssl;
  friend struct EngineBio;
  explicit TlsEngine(TlsContext context);
  Error last_error(int ssl_result, const char* what);

  TlsContext context_;  // what the callbacks of the handshake look at
  std::unique_ptr<Ssl> ssl_;
  std::vector<std::byte> input_;
  size_t input_start_ = 0;
  size_t input_end_ = 0;
  bool input_ended_ = false;
  std::vector<std::byte> output_;
  uint64_t written_since_key_update_ = 0;
  std::string peer_name_;
  bool joining_ = false;
};

}  // namespace tess::net
