#include "nn/decoder.h"

#include <algorithm>
#include <utility>

#include "nn/loss.h"

namespace headrace::nn {
namespace {

// Rows of `from` that `rows` name, beside each other.
void Gather(const Matrix& from, std::span<const int64_t> rows, const Matrix& to) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(to.Part(static_cast<int64_t>(i), 0, 1, to.columns).data,
                from.Part(rows[i], 0, 1, from.columns).data,
                static_cast<size_t>(from.columns) * SizeOf(from.type));
}
// Back to where they were; the other rows become zero.
void Scatter(const Matrix& from, std::span<const int64_t> rows, const Matrix& to) {
  std::memset(to.data, 0, static_cast<size_t>(to.rows * to.stride) * SizeOf(to.type));
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(to.Part(rows[i], 0, 1, to.columns).data,
                from.Part(static_cast<int64_t>(i), 0, 1, from.columns).data,
                static_cast<size_t>(from.columns) * SizeOf(from.type));
}

bool Is(const Matrix& matrix, DType type, int64_t rows, int64_t columns) {
  return matrix.type == type && matrix.rows == rows && matrix.columns == columns && matrix.stride >= columns;
}

// Or is not there.
bool IsOptional(const std::vector<float>& weight, int64_t size) {
  return weight.empty() || static_cast<int64_t>(weight.size()) == size;
}

bool Fits(const BlockWeights& weights, const BlockShape& shape, DType type) {
  const auto width = static_cast<size_t>(shape.width);
  return weights.attention_norm.size() == width && weights.gated_norm.size() == width &&
         Is(weights.qkv, type, shape.queries() + 2 * shape.keys(), shape.width) &&
         Is(weights.output, type, shape.width, shape.queries()) &&
         Is(weights.gate_up, type, 2 * shape.hidden, shape.width) &&
         Is(weights.down, type, shape.width, shape.hidden) &&
         IsOptional(weights.qkv_bias, shape.queries() + 2 * shape.keys()) &&
         IsOptional(weights.query_norm, shape.head_size) &&
         weights.key_norm.size() == weights.query_norm.size() &&
         IsOptional(weights.attention_post_norm, shape.width) &&
         IsOptional(weights.gated_post_norm, shape.width);
}

bool AnySlides(const DecoderShape& shape) {
  return std::find(shape.kinds.begin(), shape.kinds.end(), LayerKind::kSliding) != shape.kinds.end();
}

}  // namespace

std::vector<LayerKind> FullEvery(int64_t period, int64_t layers) {
  HEADRACE_CHECK(period > 0 && layers >= 0);
  std::vector<LayerKind> kinds(static_cast<size_t>(layers), LayerKind::kSliding);
  for (int64_t layer = period - 1; layer < layers; layer += period)
    kinds[static_cast<size_t>(layer)] = LayerKind::kFull;
  return kinds;
}

Decoder::Decoder(Matmul* matmul, DecoderShape shape, DType type, std::shared_ptr<WeightSource> weights)
    : matmul_(matmul),
      shape_(std::move(shape)),
      type_(type),
      weights_(std::move(weights)),
      rope_values_(static_cast<size_t>(shape_.context * shape_.block.head_size)),
      rope_(FillRope(shape_.context, shape_.block.head_size, shape_.rope_base, shape_.rope_factors,
                     rope_values_)) {
  if (!AnySlides(shape_)) return;
  sliding_rope_values_.resize(rope_values_.size());
  sliding_rope_ =
      FillRope(shape_.context, shape_.block.head_size, shape_.sliding_rope_base, {}, sliding_rope_values_);
}

bool Decoder::Slides(size_t layer) const {
  return !shape_.kinds.empty() && shape_.kinds[layer] == LayerKind::kSliding;
}

const RopeTable& Decoder::RopeOf(size_t layer) const { return Slides(layer) ? sliding_rope_ : rope_; }

Result<std::unique_ptr<Decoder>> Decoder::Create(Matmul* matmul, const DecoderShape& shape, DType type,
                                                 const AdapterShape& adapters, uint64_t seed,
                                                 std::shared_ptr<WeightSource> weights) {
  if (!shape.kinds.empty() && static_cast<int64_t>(shape.kinds.size()) != shape.layers)
    return Status::Invalid("a model of " + std::to_string(shape.layers) + " layers has the kinds of " +
                           std::to_string(shape.kinds.size()));
  if (AnySlides(shape) && shape.window <= 0) return Status::Invalid("layers slide, and have no window");
  std::unique_ptr<Decoder> decoder(new Decoder(matmul, shape, type, std::move(weights)));
  std::mt19937_64 random(seed);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    HEADRACE_ASSIGN(const BlockWeights block, decoder->weights_->BlockOf(layer));
    if (!Fits(block, shape.block, type))
      return Status::Invalid("the weights of layer " + std::to_string(layer) +
                             " do not have the model's shape");
    BlockShape own = shape.block;
    if (decoder->Slides(static_cast<size_t>(layer))) own.window = shape.window;
    decoder->blocks_.push_back(
        std::make_unique<Block>(matmul, own, block, adapters, "blk." + std::to_string(layer) + ".", &random));
  }
  HEADRACE_ASSIGN(decoder->final_norm_, decoder->weights_->FinalNorm());
  HEADRACE_ASSIGN(const Matrix head, decoder->weights_->Head());
  if (static_cast<int64_t>(decoder->final_norm_.size()) != shape.block.width ||
      !Is(head, type, shape.vocabulary, shape.block.width))
    return Status::Invalid("the weights of the head do not have the model's shape");
  decoder->head_ = matmul->Pack(head, Transpose::kYes);
  decoder->head_back_ = matmul->Pack(head, Transpose::kNo);
  return decoder;
}

BatchLoss Decoder::Step(const Batch& batch, float scale) { return Run(batch, scale, true); }

BatchLoss Decoder::Evaluate(const Batch& batch) { return Run(batch, 1, false); }

BatchLoss Decoder::Run(const Batch& batch, float scale, bool learn) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  HEADRACE_CHECK(batch.targets.size() == batch.tokens.size() && !batch.starts.empty() &&
                 batch.starts.back() == rows);
  std::vector<int32_t> positions(batch.tokens.size());
  for (size_t i = 0; i + 1 < batch.starts.size(); ++i)
    for (int64_t row = batch.starts[i]; row < batch.starts[i + 1]; ++row)
      positions[static_cast<size_t>(row)] = static_cast<int32_t>(row - batch.starts[i]);
  const Documents documents = {batch.starts, positions};

  const int64_t width = shape_.block.width;
  const Scratch x(type_, rows, width);
  weights_->Embed(batch.tokens, x.matrix());
  if (shape_.embedding_scale != 1) Scale(shape_.embedding_scale, x.matrix());
  std::vector<Kept> kept;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    kept.push_back(blocks_[i]->Forward(x.matrix(), documents, RopeOf(i)));
    if (!learn) kept.clear();
  }

  // Only rows that are learned from go through the head.
  std::vector<int64_t> learned;
  std::vector<int32_t> targets;
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t target = batch.targets[static_cast<size_t>(row)];
    if (target == kNoTarget) continue;
    learned.push_back(row);
    targets.push_back(target);
  }
  const auto count = static_cast<int64_t>(learned.size());
  if (count == 0) return {};
  const Scratch last(type_, count, width);
  const Scratch normed(type_, count, width);
  const Scratch dnormed(type_, count, width);
  const Scratch dlast(type_, count, width);
  std::vector<float> inverse(learned.size());
  std::vector<float> losses(learned.size());
  Gather(x.matrix(), learned, last.matrix());
  RmsNorm(last.matrix(), final_norm_, shape_.block.epsilon, normed.matrix(), inverse);
  HeadLoss(matmul_, normed.matrix(), *head_, *head_back_, targets, scale, dnormed.matrix(), losses);
  BatchLoss loss;
  loss.rows = count;
  for (const float value : losses) loss.sum += value;
  if (!learn) return loss;

  RmsNormBackward(dnormed.matrix(), last.matrix(), final_norm_, inverse, dlast.matrix(), Into::kReplace, {});
  Scatter(dlast.matrix(), learned, x.matrix());
  for (size_t i = blocks_.size(); i-- > 0;) {
    blocks_[i]->Backward(kept[i], documents, RopeOf(i), i == 0, x.matrix());
    kept.pop_back();
  }
  return loss;
}

std::vector<Parameter*> Decoder::parameters() {
  std::vector<Parameter*> found;
  for (const auto& block : blocks_) {
    block->EachLinear([&](Linear* linear) {
      for (Parameter& parameter : linear->parameters()) found.push_back(&parameter);
    });
  }
  return found;
}

void Decoder::Refresh() {
  for (const auto& block : blocks_) block->EachLinear([](Linear* linear) { linear->Refresh(); });
}

}  // namespace headrace::nn
