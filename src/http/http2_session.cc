#include "http/http2_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "http/http2_exchange.h"
#include "http/request_head.h"

namespace headrace::http {
namespace {

constexpr size_t kTaken = 64 << 10;
constexpr int32_t kWindow = 1 << 20, kConnectionWindow = 4 << 20;  // bytes in flight
constexpr size_t kOverhead = 32;                                   // of a header (RFC 9113, 6.5.2)
// A peer that goes beyond these is told to calm down, and its connection ends. Senders that behave send a
// PING in ten seconds at most, and reset what they give up.
constexpr int kMostControlFrames = 1000;                  // between two whole requests
constexpr int kMostFaults = 200;                          // streams that the server had to reset
constexpr uint64_t kResets = 200, kResetsPerSecond = 20;  // CVE-2023-44487
constexpr size_t kMostAcks = 2 * kMostControlFrames, kMostSettings = 32, kMostContinuations = 8;

std::string_view View(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// Fields that HTTP/2 has no place for (RFC 9113, 8.2.2).
bool OfConnection(std::string_view name) {
  return name == "connection" || name == "keep-alive" || name == "transfer-encoding" || name == "upgrade" ||
         name == "proxy-connection";
}

// Names and values as nghttp2 takes them; they live as long as this.
class Fields {
 public:
  void Add(std::string name, std::string value) {
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (!OfConnection(name)) texts_.emplace_back(std::move(name), std::move(value));
  }
  std::vector<nghttp2_nv> pairs() {
    std::vector<nghttp2_nv> found;
    for (auto& [name, value] : texts_)
      found.push_back({reinterpret_cast<uint8_t*>(name.data()), reinterpret_cast<uint8_t*>(value.data()),
                       name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    return found;
  }

 private:
  std::vector<std::pair<std::string, std::string>> texts_;
};

}  // namespace

// A request on its way in, or its answer on its way out.
struct Http2Session::Stream {
  int32_t id = 0;
  HttpRequest request;
  int64_t head_bytes = 0;
  double began = 0, taken_at = 0;  // monotonic seconds; the latter of the answer
  bool head_done = false, whole = false, full = false;
  bool given = false;     // to the handler
  bool answered = false;  // though the answer may still be to be written
  std::shared_ptr<BodyRoom> room;
  std::shared_ptr<Http2Exchange> exchange;
  HttpResponse answer;
  size_t sent = 0;  // of its body
};

// From C to the session. What is no longer of interest has no Stream, and is passed over.
struct Http2Session::Callbacks {
  static Http2Session& Self(void* user) { return *static_cast<Http2Session*>(user); }

  // Of every frame, also of those that nghttp2 passes over.
  static int BeginFrame(nghttp2_session*, const nghttp2_frame_hd* frame, void* user) {
    const bool nothing = frame->type == NGHTTP2_DATA && frame->length == 0 && frame->flags == 0;
    const bool request =
        frame->type == NGHTTP2_DATA || frame->type == NGHTTP2_HEADERS || frame->type == NGHTTP2_CONTINUATION;
    if (nothing || !request) Self(user).OnControlFrame();
    return 0;
  }
  static int BeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
      Self(user).OnHeaders(frame->hd.stream_id);
    return 0;
  }
  static int Header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t, void* user) {
    Stream* stream = Self(user).Find(frame->hd.stream_id);
    if (stream == nullptr) return 0;
    // The rest of the block is decoded and looked at no more: one of 16 KiB can stand for 64 MiB.
    return Self(user).OnHeader(stream, View(name, name_size), View(value, value_size))
               ? 0
               : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  static int FrameReceived(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Http2Session& self = Self(user);
    self.settled_ = true;
    Stream* stream = self.Find(frame->hd.stream_id);
    const bool data = frame->hd.type == NGHTTP2_DATA, headers = frame->hd.type == NGHTTP2_HEADERS;
    const bool end = (data || headers) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (stream == nullptr) return 0;
    if (headers && frame->headers.cat == NGHTTP2_HCAT_REQUEST) self.OnHead(stream);
    if (end) self.OnWhole(stream);
    return 0;
  }
  static int Data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
    if (Stream* stream = Self(user).Find(id)) Self(user).OnData(stream, View(bytes, size));
    return 0;
  }
  static int InvalidFrame(nghttp2_session*, const nghttp2_frame*, int, void* user) {
    ++Self(user).shared_->malformed;
    return 0;
  }
  static int FrameSent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Http2Session& self = Self(user);
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
      self.OnFault();
    const bool answers = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (!answers || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    // It was answered before it was whole: the peer need not send the rest (RFC 9113, 8.1).
    if (const Stream* stream = self.Find(frame->hd.stream_id); stream != nullptr && !stream->whole)
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
  }
  static int StreamClosed(nghttp2_session*, int32_t id, uint32_t, void* user) {
    Self(user).OnClose(id);
    return 0;
  }
  static ssize_t Answer(nghttp2_session*, int32_t id, uint8_t* out, size_t most, uint32_t* flags,
                        nghttp2_data_source*, void* user) {
    return Self(user).ReadAnswer(id, out, most, flags);
  }
};

std::shared_ptr<Http2Session> Http2Session::Make(std::shared_ptr<Shared> shared, std::string peer,
                                                 std::function<void()> wake) {
  std::shared_ptr<Http2Session> session(
      new Http2Session(std::move(shared), std::move(peer), std::move(wake)));
  session->Begin();
  return session;
}

Http2Session::Http2Session(std::shared_ptr<Shared> shared, std::string peer, std::function<void()> wake)
    : shared_(std::move(shared)),
      peer_(std::move(peer)),
      wake_(std::move(wake)),
      in_hands_(std::make_shared<std::atomic<int>>(0)),
      began_(MonotonicSeconds()),
      idle_since_(began_) {}

Http2Session::~Http2Session() {
  nghttp2_session_del(session_);
  for (const auto& [id, stream] : streams_)
    if (stream.given) ++written_ends_;
  for (; written_ends_ > 0; --written_ends_) shared_->EndAnswer();
}

void Http2Session::SetOptions(nghttp2_option* option) {
  nghttp2_option_set_max_outbound_ack(option, kMostAcks);
  nghttp2_option_set_max_settings(option, kMostSettings);
  nghttp2_option_set_stream_reset_rate_limit(option, kResets, kResetsPerSecond);
  nghttp2_option_set_max_continuations(option, kMostContinuations);
  nghttp2_option_set_no_closed_streams(option, 1);
}

void Http2Session::Begin() {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
    throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, Callbacks::BeginFrame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::BeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::Header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::FrameReceived);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::Data);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, Callbacks::InvalidFrame);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::FrameSent);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::StreamClosed);
  SetOptions(option);
  const int made = nghttp2_session_server_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  if (made != 0) throw std::bad_alloc();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, static_cast<uint32_t>(shared_->options.http2->max_streams)},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(shared_->options.max_header)},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

Http2Session::Stream* Http2Session::Find(int32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

void Http2Session::Receive(std::string_view bytes) {
  if (broken_) return;
  busy_ = true;
  const ssize_t used =
      nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  busy_ = false;
  if (used >= 0) return;
  broken_ = true;
  ++shared_->malformed;
  // Whoever takes the port for the other one is told; what is no HTTP at all is not.
  if (used == NGHTTP2_ERR_BAD_CLIENT_MAGIC && bytes.front() >= 'A' && bytes.front() <= 'Z') {
    const std::string body = shared_->ErrorBody(400, "this port takes HTTP/2 alone (gRPC)", "");
    last_ =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: "
        "application/json\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
  }
}

std::string Http2Session::Take() {
  for (; written_ends_ > 0; --written_ends_) shared_->EndAnswer();
  if (!last_.empty()) return std::exchange(last_, {});
  std::string out;
  if (broken_ && !settled_) return out;
  busy_ = true;
  while (out.size() < kTaken) {
    const uint8_t* bytes = nullptr;
    const ssize_t got = nghttp2_session_mem_send(session_, &bytes);
    if (got < 0) broken_ = true;
    if (got <= 0) break;
    out.append(View(bytes, static_cast<size_t>(got)));
  }
  busy_ = false;
  return out;
}

bool Http2Session::over() const {
  return broken_ || (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0);
}

void Http2Session::Tick(bool writing) {
  if (broken_) return;
  const HttpOptions& options = shared_->options;
  const double now = MonotonicSeconds();
  if (!settled_ && now - began_ > options.header_seconds) {
    broken_ = true;
    return;
  }
  busy_ = true;  // what is answered here is taken afterwards
  for (auto& [id, stream] : streams_) {
    if (!stream.head_done && now - stream.began > options.header_seconds) {
      ++shared_->too_slow;
      Calm();  // nothing else can come before the rest of it
    } else if (!stream.whole && !stream.answered && now - stream.began > options.body_seconds) {
      ++shared_->too_slow;
      Refuse(&stream, 408, "the request did not arrive in time");
    } else if (stream.answered && !writing && now - stream.taken_at > options.write_seconds) {
      ++shared_->too_slow;
      stream.taken_at = now;  // told once
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    }
  }
  busy_ = false;
  if (streams_.empty() && now - idle_since_ > options.idle_seconds) GoAway();
}

void Http2Session::GoAway() {
  if (away_ || broken_) return;
  away_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

void Http2Session::Calm() {
  if (std::exchange(calmed_, true)) return;
  away_ = true;
  ++shared_->malformed;
  nghttp2_session_terminate_session(session_, NGHTTP2_ENHANCE_YOUR_CALM);
}

void Http2Session::Gone() {
  broken_ = true;
  std::map<int32_t, Stream> left = std::move(streams_);
  streams_.clear();
  for (auto& [id, stream] : left) {
    if (!stream.given) continue;
    ++written_ends_;
    ++shared_->gone;
    stream.exchange->Over(false);
  }
  for (; written_ends_ > 0; --written_ends_) shared_->EndAnswer();
}

void Http2Session::OnHeaders(int32_t id) {
  // Those that the peer gave up count as long as somebody works for them.
  if (*in_hands_ >= shared_->options.http2->max_streams) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return;
  }
  Stream& stream = streams_[id];
  stream.id = id;
  stream.began = MonotonicSeconds();
  stream.room = std::make_shared<BodyRoom>(shared_);
}

// False: the header is too large.
bool Http2Session::OnHeader(Stream* stream, std::string_view name, std::string_view value) {
  stream->head_bytes += static_cast<int64_t>(name.size() + value.size() + kOverhead);
  if (stream->head_bytes > shared_->options.max_header) return false;
  if (stream->head_done || stream->full) return true;  // trailers say nothing
  if (!stream->room->GrowTo(stream->head_bytes)) {
    stream->full = true;
    return true;
  }
  HttpRequest& request = stream->request;
  if (name == ":method") {
    request.method = value;
  } else if (name == ":path") {
    SplitTarget(value, &request);
  } else if (name == ":authority") {
    request.headers.emplace_back("host", value);
  } else if (!name.starts_with(':') && (name != "host" || request.Header("host").empty())) {
    request.headers.emplace_back(name, value);
  }
  return true;
}

void Http2Session::OnHead(Stream* stream) {
  stream->head_done = true;
  stream->request.http2 = true;
  stream->request.peer = peer_;
  if (stream->full) return Refuse(stream, 503, "there are too many requests; try again");
  if (shared_->options.on_header)
    if (auto answer = shared_->options.on_header(stream->request)) Answer(stream->id, std::move(*answer));
}

void Http2Session::OnData(Stream* stream, std::string_view bytes) {
  if (stream->answered) return;
  const auto size = static_cast<int64_t>(stream->request.body.size() + bytes.size());
  if (size > shared_->options.max_body)
    return Refuse(stream, 413,
                  "the body is larger than " + std::to_string(shared_->options.max_body) + " bytes");
  if (!stream->room->GrowTo(stream->head_bytes + size))
    return Refuse(stream, 503, "there are too many requests with large bodies; try again");
  stream->request.body += bytes;
}

void Http2Session::OnWhole(Stream* stream) {
  stream->whole = true;
  if (stream->answered) return;
  control_frames_ = 0;
  if (faults_ > 0) --faults_;
  stream->given = true;
  shared_->BeginAnswer();
  stream->exchange = std::make_shared<Http2Exchange>(shared_from_this(), stream->id,
                                                     std::move(stream->request), std::move(stream->room));
  stream->request = {};
  shared_->handler(stream->exchange);
}

void Http2Session::OnControlFrame() {
  if (++control_frames_ > kMostControlFrames) Calm();
}

void Http2Session::OnFault() {
  if (++faults_ > kMostFaults) Calm();
}

void Http2Session::OnClose(int32_t id) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) return;
  const Stream stream = std::move(found->second);
  streams_.erase(found);
  if (streams_.empty()) idle_since_ = MonotonicSeconds();
  if (!stream.given) return;
  ++written_ends_;
  const bool told = stream.answered && stream.sent == stream.answer.body.size();
  if (!told) ++shared_->gone;
  stream.exchange->Over(told);
}

ptrdiff_t Http2Session::ReadAnswer(int32_t id, unsigned char* out, size_t most, unsigned* flags) {
  Stream* stream = Find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const HttpResponse& answer = stream->answer;
  const size_t size = std::min(most, answer.body.size() - stream->sent);
  answer.body.copy(reinterpret_cast<char*>(out), size, stream->sent);
  stream->sent += size;
  if (size > 0) stream->taken_at = MonotonicSeconds();
  if (stream->sent < answer.body.size()) return static_cast<ptrdiff_t>(size);
  *flags |= NGHTTP2_DATA_FLAG_EOF;
  if (!answer.trailers.empty()) {
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    Fields fields;
    for (const auto& [name, value] : answer.trailers) fields.Add(name, value);
    const auto pairs = fields.pairs();
    if (nghttp2_submit_trailer(session_, id, pairs.data(), pairs.size()) != 0)
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  return static_cast<ptrdiff_t>(size);
}

void Http2Session::Answer(int32_t id, HttpResponse response) {
  Stream* stream = Find(id);
  if (stream == nullptr || stream->answered || broken_) return;
  stream->answered = true;
  stream->taken_at = MonotonicSeconds();
  if (!stream->given) {
    stream->request = {};
    stream->room.reset();
  }
  Fields fields;
  fields.Add(":status", std::to_string(response.status));
  fields.Add("server", "headrace");
  if (!response.type.empty()) fields.Add("content-type", response.type);
  for (auto& [name, value] : response.headers) fields.Add(std::move(name), std::move(value));
  stream->answer = std::move(response);
  const auto pairs = fields.pairs();
  nghttp2_data_provider body{};
  body.read_callback = Callbacks::Answer;
  const bool has_body = !stream->answer.body.empty() || !stream->answer.trailers.empty();
  if (nghttp2_submit_response(session_, id, pairs.data(), pairs.size(), has_body ? &body : nullptr) != 0)
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_INTERNAL_ERROR);
  Wake();
}

void Http2Session::Refuse(Stream* stream, int status, const std::string& message) {
  const auto& fault = shared_->options.http2->fault;
  Answer(stream->id, fault ? fault(status, message) : HttpResponse{status, {}, message + "\n", "text/plain"});
}

void Http2Session::Wake() {
  if (!busy_ && wake_) wake_();
}

}  // namespace headrace::http
