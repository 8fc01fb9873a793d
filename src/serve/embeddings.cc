#include "serve/embeddings.h"

#include <cmath>

#include "api/writer.h"
#include "serve/text_vectors.h"

namespace headrace::serve {
namespace {

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
  if (const auto fault = api::ParseEmbeddings(ticket->request().body, &call))
    return (void)ticket->Refuse(*fault);
  VectorsCall asked;
  asked.model = call.model;
  asked.unknown = std::move(call.unknown);
  asked.inputs = std::move(call.inputs);
  asked.cut = call.cut;
  asked.timeout = call.timeout;
  asked.path = [listed = call.listed](size_t i) { return EntryOf("input", listed, i); };
  WithTexts(
      ticket, std::move(asked),
      [ticket, name = call.model, dimensions = call.dimensions, base64 = call.base64](TokenTexts texts) {
        const int width = texts.served->embedder->width();
        if (dimensions > width)
          return (void)ticket->Refuse(api::Fault::Field(
              "dimensions", "must be at most " + std::to_string(width) + ", what the model gives"));
        const auto say = [model = texts.model(name), dimensions, base64](engine::Embeddings vectors) {
          if (dimensions > 0 && dimensions < vectors.width) Narrow(dimensions, &vectors);
          return api::EmbeddingsBody(model, vectors.values, vectors.width, base64, vectors.tokens);
        };
        AnswerWithVectors(ticket, std::move(texts), say);
      });
}

}  // namespace headrace::serve
