// Http2Session: HTTP/2 (RFC 9113) as a server speaks it, without the connection: bytes in, bytes out. nghttp2
// does frames, HPACK and flow control; here are requests, answers and limits. It belongs to the network's
// thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "http/shared.h"

struct nghttp2_session;
struct nghttp2_option;

namespace headrace::http {

class Http2Exchange;

class Http2Session : public std::enable_shared_from_this<Http2Session> {
 public:
  // `wake`: called when there is something to take that no byte of the peer's has caused.
  static std::shared_ptr<Http2Session> Make(std::shared_ptr<Shared> shared, std::string peer,
                                            std::function<void()> wake);
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  // What came. Afterwards there may be something to take, and it may be over.
  void Receive(std::string_view bytes);
  // What is to be written next, of about 64 KiB at most; "" where there is nothing. What was taken before has
  // been written when this is called.
  std::string Take();
  // Looks for what takes too long. To be called from time to time. `writing`: what was taken is still being
  // written.
  void Tick(bool writing);
  // No new requests: it is over when those that are there are answered.
  void GoAway();
  // The peer has left: whoever works for it is told.
  void Gone();
  // Nothing more to read or to write, but for what Take() still gives.
  bool over() const;

 private:
  friend class Http2Exchange;
  struct Stream;
  struct Callbacks;

  Http2Session(std::shared_ptr<Shared> shared, std::string peer, std::function<void()> wake);
  static void SetOptions(nghttp2_option* option);
  void Begin();
  Stream* Find(int32_t id);
  // Of nghttp2's callbacks.
  void OnHeaders(int32_t id);
  bool OnHeader(Stream* stream, std::string_view name, std::string_view value);
  void OnHead(Stream* stream);
  void OnData(Stream* stream, std::string_view bytes);
  void OnWhole(Stream* stream);
  void OnControlFrame();
  void OnClose(int32_t id);
  void OnFault();
  ptrdiff_t ReadAnswer(int32_t id, unsigned char* out, size_t most, unsigned* flags);

  void Answer(int32_t id, HttpResponse response);
  void Refuse(Stream* stream, int status, const std::string& message);
  void Calm();  // the peer is told to, and the connection ends
  void Wake();

  const std::shared_ptr<Shared> shared_;
  const std::string peer_;
  const std::function<void()> wake_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Stream> streams_;
  std::shared_ptr<std::atomic<int>> in_hands_;  // exchanges that somebody still holds
  std::string last_;                            // to a peer that speaks no HTTP/2
  const double began_;
  double idle_since_;
  bool busy_ = false;     // in a call of nghttp2
  bool settled_ = false;  // the peer's first frame is there
  bool away_ = false, calmed_ = false, broken_ = false;
  int64_t written_ends_ = 0;             // exchanges whose last byte was taken, or whose peer is gone
  int control_frames_ = 0, faults_ = 0;  // since the last whole request; less one for each
};

}  // namespace headrace::http
