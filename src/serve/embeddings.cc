#include "serve/embeddings.h"

#include <cmath>

#include "api/writer.h"
#include "serve/text_vectors.h"

namespace headrace::serve {
namespace {

std::optional<api::Fault> Read(Ticket* ticket, api::EmbeddingsCall* call, TokenTexts* texts) {
  if (auto fault = api::ParseEmbeddings(ticket->request().body, call)) return fault;
  const auto path = [listed = call->listed](size_t i) { return EntryOf("input", listed, i); };
  if (auto fault = ReadTexts(ticket, call->model, call->unknown, call->inputs, call->cut, path, texts))
    return fault;
  const int width = texts->served->embedder->width();
  if (call->dimensions > width)
    return api::Fault::Field("dimensions",
                             "must be at most " + std::to_string(width) + ", what the model gives");
  return std::nullopt;
}

// The first `width` numbers of each vector, to length 1 again.
void Narrow(int width, engine::Embeddings* vectors) {
  const auto from = static_cast<size_t>(vectors->width), to = static_cast<size_t>(width);
  std::vector<float> narrow;
  narrow.reserve(vectors->values.size() / from * to);
  for (size_t at = 0; at < vectors->values.size(); at += from) {
    const float* values = vectors->values.data() + at;
    double square = 0;
    for (size_t j = 0; j < to; ++j) square += double{values[j]} * values[j];
    const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
    for (size_t j = 0; j < to; ++j) narrow.push_back(static_cast<float>(values[j] * scale));
  }
  vectors->values = std::move(narrow);
  vectors->width = width;
}

}  // namespace

void Embeddings(const std::shared_ptr<Ticket>& ticket) {
  api::EmbeddingsCall call;
  TokenTexts texts;
  if (const auto fault = Read(ticket.get(), &call, &texts)) return (void)ticket->Refuse(*fault);
  const auto say = [model = texts.model(call.model), dimensions = call.dimensions,
                    base64 = call.base64](engine::Embeddings vectors) {
    if (dimensions > 0 && dimensions < vectors.width) Narrow(dimensions, &vectors);
    return api::EmbeddingsBody(model, vectors.values, vectors.width, base64, vectors.tokens);
  };
  AnswerWithVectors(ticket, std::move(texts), say);
}

}  // namespace headrace::serve
