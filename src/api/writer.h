// Writer: answers in the words of the API that was asked, whole or as server-sent events
// (html.spec.whatwg.org/multipage/server-sent-events.html).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"

namespace headrace::api {

struct Head {
  std::string id;                                       // the request's; also what a score names
  std::string model;                                    // as it is told
  int64_t created = 0;                                  // seconds since 1970
  std::function<std::string_view(model::Token)> piece;  // the bytes of a token
  std::string fingerprint;                              // of the model and the engine
};

class Writer {
 public:
  static std::unique_ptr<Writer> Make(const Call& call, Head head);
  virtual ~Writer() = default;

  virtual std::string Whole(const std::vector<Choice>& choices) = 0;

  // Streams, in this order; each gives the events to send, "" for none. `fresh`: the choice's tokens from
  // there on are new.
  virtual std::string Begin(int64_t prompt_tokens) = 0;
  // Instead of words: so much of the prompt is computed.
  virtual std::string Progress(const Choice& /*choice*/, int32_t /*processed*/) { return ""; }
  virtual std::string Say(const Choice& choice, const std::vector<Event>& events, size_t fresh) = 0;
  virtual std::string EndChoice(const Choice& choice) = 0;
  virtual std::string End(const std::vector<Choice>& choices) = 0;
  // Instead of the rest, where something went wrong in the middle.
  virtual std::string Error(const Fault& fault) = 0;
};

// A comment: keeps a connection open while nothing is said.
inline constexpr std::string_view kKeepAlive = ": waiting\n\n";

// Vectors as /v1/embeddings tells them. `values`: [texts, width].
std::string EmbeddingsBody(const std::string& model, const std::vector<float>& values, int width, bool base64,
                           int64_t tokens);

// What /completion answers as generation_settings where a call says nothing beside the server's `defaults`:
// JSON.
std::string NativeSettings(const Call& defaults);

// Shared by the writers.
std::string JsonText(std::string_view text);  // quoted and escaped; what is not UTF-8 is replaced

}  // namespace headrace::api
