// HTTP/2 from the other side: nghttp2's client, and frames made by hand.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace headrace::testing::http2 {

inline constexpr uint8_t kData = 0, kHeaders = 1, kPriority = 2, kReset = 3, kSettings = 4, kPing = 6,
                         kGoAway = 7, kWindowUpdate = 8, kContinuation = 9;
inline constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
inline constexpr uint32_t kNoError = 0, kProtocolError = 1, kRefusedStream = 7, kCancel = 8, kCalm = 11;
inline constexpr char kMagic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

inline std::string Number(uint32_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

inline std::string FrameOf(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload = "") {
  return Number(static_cast<uint32_t>(payload.size()), 3) + static_cast<char>(type) +
         static_cast<char>(flags) + Number(stream, 4) + std::string(payload);
}

// A header as HPACK has it, of neither table, not Huffman-coded.
inline std::string Field(std::string_view name, std::string_view value) {
  const auto text = [](std::string_view part) {
    std::string size;
    if (part.size() < 127) return static_cast<char>(part.size()) + std::string(part);
    size = "\x7f";
    size_t left = part.size() - 127;
    for (; left > 127; left >>= 7) size += static_cast<char>(left % 128 + 128);
    return size + static_cast<char>(left) + std::string(part);
  };
  return std::string(1, '\0') + text(name) + text(value);
}

inline std::string Head(std::string_view path = "/", std::string_view more = "") {
  return Field(":method", "POST") + Field(":scheme", "http") + Field(":path", path) +
         Field(":authority", "localhost") + std::string(more);
}

inline std::string Hello() { return std::string(kMagic) + FrameOf(kSettings, 0, 0); }

struct Frame {
  uint8_t type = 0xff, flags = 0;
  uint32_t stream = 0;
  std::string payload;
  uint32_t error() const {  // of RST_STREAM and GOAWAY
    const size_t at = type == kGoAway ? 4 : 0;
    uint32_t value = 0;
    for (size_t i = at; i < at + 4 && i < payload.size(); ++i)
      value = value << 8 | static_cast<unsigned char>(payload[i]);
    return value;
  }
};

class Wire {
 public:
  explicit Wire(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval wait{20, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    const int now = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Wire() { Close(); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }
  // False where the server has closed.
  bool Say(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // Whether there is something to read, after a moment at most.
  bool Ready() const {
    pollfd wanted{socket_, POLLIN, 0};
    return poll(&wanted, 1, 5) > 0;
  }
  std::string Some() {
    char buffer[65536];
    const ssize_t got = recv(socket_, buffer, sizeof buffer, 0);
    return {buffer, static_cast<size_t>(std::max<ssize_t>(got, 0))};
  }
  std::string All() {
    std::string text;
    for (std::string some; !(some = Some()).empty();) text += some;
    return text;
  }
  // The next frame; of type 0xff where the server has closed, or says nothing for 20 s.
  Frame Next() {
    const auto have = [&](size_t bytes) {
      while (held_.size() < bytes) {
        const std::string more = Some();
        if (more.empty()) return false;
        held_ += more;
      }
      return true;
    };
    Frame frame;
    if (!have(9)) return frame;
    const auto byte = [&](size_t at) { return static_cast<uint32_t>(static_cast<unsigned char>(held_[at])); };
    const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
    if (!have(9 + size)) return frame;
    frame.type = static_cast<uint8_t>(byte(3));
    frame.flags = static_cast<uint8_t>(byte(4));
    frame.stream = (byte(5) & 0x7f) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8);
    frame.payload = held_.substr(9, size);
    held_.erase(0, 9 + size);
    return frame;
  }
  // The next of this type; of type 0xff where there is none.
  Frame Next(uint8_t type) {
    for (;;) {
      Frame frame = Next();
      if (frame.type == type || frame.type == 0xff) return frame;
    }
  }

 private:
  int socket_;
  std::string held_;
};

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Told {
  std::map<std::string, std::string> fields;  // of the head and the trailers
  std::string body;
  bool closed = false;
  uint32_t error = 0;
};

// A client by nghttp2.
class Client {
 public:
  explicit Client(uint16_t port) : wire_(port) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t size, uint8_t, void* self) {
          static_cast<Client*>(self)
              ->told[frame->hd.stream_id]
              .fields[std::string(reinterpret_cast<const char*>(name), name_size)] =
              std::string(reinterpret_cast<const char*>(value), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* self) {
          static_cast<Client*>(self)->told[id].body.append(reinterpret_cast<const char*>(bytes), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t id, uint32_t error, void* self) {
          Told& one = static_cast<Client*>(self)->told[id];
          one.closed = true;
          one.error = error;
          return 0;
        });
    nghttp2_session_client_new(&session_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Client() { nghttp2_session_del(session_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int32_t Send(std::string_view path, std::string body, const Pairs& more = {}) {
    Pairs all = {
        {":method", "POST"}, {":scheme", "http"}, {":path", std::string(path)}, {":authority", "localhost"}};
    all.insert(all.end(), more.begin(), more.end());
    std::vector<nghttp2_nv> fields;
    for (auto& [name, value] : all)
      fields.push_back({reinterpret_cast<uint8_t*>(name.data()), reinterpret_cast<uint8_t*>(value.data()),
                        name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    bodies_.push_back(std::make_unique<std::pair<std::string, size_t>>(std::move(body), 0));
    nghttp2_data_provider provider{};
    provider.source.ptr = bodies_.back().get();
    provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t most, uint32_t* flags,
                                nghttp2_data_source* source, void*) -> ssize_t {
      auto& [text, at] = *static_cast<std::pair<std::string, size_t>*>(source->ptr);
      const size_t size = std::min(most, text.size() - at);
      text.copy(reinterpret_cast<char*>(out), size, at);
      at += size;
      if (at == text.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    return nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(), &provider, nullptr);
  }
  // Writes and reads until `done`, or the server has closed. False: it has.
  bool Until(const std::function<bool()>& done) {
    for (;;) {
      const uint8_t* bytes = nullptr;
      for (ssize_t size; (size = nghttp2_session_mem_send(session_, &bytes)) > 0;)
        if (!wire_.Say({reinterpret_cast<const char*>(bytes), static_cast<size_t>(size)})) break;
      if (done()) return true;
      if (!wire_.Ready()) continue;
      const std::string some = wire_.Some();
      if (some.empty()) return false;
      EXPECT_GE(
          nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(some.data()), some.size()), 0);
    }
  }
  Told Ask(std::string_view path, std::string body, const Pairs& more = {}) {
    const int32_t id = Send(path, std::move(body), more);
    Until([&] { return told[id].closed; });
    return told[id];
  }

  std::map<int32_t, Told> told;

 private:
  Wire wire_;
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<std::pair<std::string, size_t>>> bodies_;
};

}  // namespace headrace::testing::http2
