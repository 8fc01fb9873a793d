#include "nn/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "nn/kernels.h"

namespace headrace::nn {
namespace {

// Query rows of a tile, and what key rows are rounded to: products have few shapes, whatever lengths
// documents have.
constexpr int64_t kTile = 128;

int64_t RoundUp(int64_t rows) { return (rows + kTile - 1) / kTile * kTile; }

// One document and one head of keys.
struct Item {
  int64_t first = 0;  // row
  int64_t rows = 0;
  int64_t key_head = 0;
};

// The longest first: threads end at about the same time.
std::vector<Item> Items(const AttentionShape& shape, std::span<const int64_t> starts) {
  std::vector<Item> items;
  for (size_t i = 0; i + 1 < starts.size(); ++i)
    for (int64_t head = 0; head < shape.key_heads; ++head)
      items.push_back({starts[i], starts[i + 1] - starts[i], head});
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.rows > b.rows; });
  return items;
}

// Rows of one head beside each other, with rows of zeros up to a whole tile.
template <typename T>
void CopyHead(const Matrix& from, const Item& item, int64_t head, int64_t size, std::vector<T>* to) {
  to->assign(static_cast<size_t>(RoundUp(item.rows) * size), T());
  for (int64_t row = 0; row < item.rows; ++row)
    std::copy_n(from.Row<T>(item.first + row) + head * size, size, to->data() + row * size);
}

template <typename T>
void StoreHead(const std::vector<float>& from, const Item& item, int64_t head, int64_t size,
               const Matrix& to) {
  for (int64_t row = 0; row < item.rows; ++row)
    for (int64_t i = 0; i < size; ++i)
      FromFloat(from[static_cast<size_t>(row * size + i)], to.Row<T>(item.first + row) + head * size + i);
}

// Scores of the keys from `begin` on become probabilities; those below `seen` and above `last` are zero.
template <typename T>
inline __attribute__((always_inline)) float SoftmaxRow(const float* scores, int64_t count, int64_t seen,
                                                       int64_t last, float scale, T* probabilities) {
  float highest = -std::numeric_limits<float>::infinity();
  for (int64_t i = seen; i <= last; ++i) highest = std::max(highest, scores[i]);
  float sums[kLanes] = {};
  int64_t i = seen;
  for (; i + kLanes <= last + 1; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += Exp((scores[i + lane] - highest) * scale);
  for (; i <= last; ++i) sums[(i - seen) % kLanes] += Exp((scores[i] - highest) * scale);
  const float log_sum = highest * scale + std::log(SumOf(sums));
  for (int64_t j = 0; j < seen; ++j) FromFloat(0, &probabilities[j]);
  for (int64_t j = seen; j <= last; ++j) FromFloat(Exp(scores[j] * scale - log_sum), &probabilities[j]);
  for (int64_t j = last + 1; j < count; ++j) FromFloat(0, &probabilities[j]);
  return log_sum;
}
HEADRACE_KERNEL float SoftmaxF32(const float* s, int64_t n, int64_t seen, int64_t last, float scale,
                                 float* p) {
  return SoftmaxRow(s, n, seen, last, scale, p);
}
HEADRACE_KERNEL float SoftmaxBF16(const float* s, int64_t n, int64_t seen, int64_t last, float scale,
                                  BF16* p) {
  return SoftmaxRow(s, n, seen, last, scale, p);
}
float SoftmaxOf(const float* s, int64_t n, int64_t seen, int64_t last, float scale, float* p) {
  return SoftmaxF32(s, n, seen, last, scale, p);
}
float SoftmaxOf(const float* s, int64_t n, int64_t seen, int64_t last, float scale, BF16* p) {
  return SoftmaxBF16(s, n, seen, last, scale, p);
}

// Probabilities again from scores, and the gradient of the scores: p · (dp - delta) · scale.
template <typename T>
inline __attribute__((always_inline)) void ScoreRow(const float* scores, const float* dp, int64_t count,
                                                    int64_t seen, int64_t last, float scale, float log_sum,
                                                    float delta, T* p, T* ds) {
  for (int64_t j = 0; j < seen; ++j) {
    FromFloat(0, &p[j]);
    FromFloat(0, &ds[j]);
  }
  for (int64_t j = seen; j <= last; ++j) {
    const float probability = Exp(scores[j] * scale - log_sum);
    FromFloat(probability, &p[j]);
    FromFloat(probability * (dp[j] - delta) * scale, &ds[j]);
  }
  for (int64_t j = last + 1; j < count; ++j) {
    FromFloat(0, &p[j]);
    FromFloat(0, &ds[j]);
  }
}
HEADRACE_KERNEL void ScoreF32(const float* s, const float* dp, int64_t n, int64_t seen, int64_t last,
                              float scale, float l, float d, float* p, float* ds) {
  ScoreRow(s, dp, n, seen, last, scale, l, d, p, ds);
}
HEADRACE_KERNEL void ScoreBF16(const float* s, const float* dp, int64_t n, int64_t seen, int64_t last,
                               float scale, float l, float d, BF16* p, BF16* ds) {
  ScoreRow(s, dp, n, seen, last, scale, l, d, p, ds);
}
void ScoreOf(const float* s, const float* dp, int64_t n, int64_t seen, int64_t last, float scale, float l,
             float d, float* p, float* ds) {
  ScoreF32(s, dp, n, seen, last, scale, l, d, p, ds);
}
void ScoreOf(const float* s, const float* dp, int64_t n, int64_t seen, int64_t last, float scale, float l,
             float d, BF16* p, BF16* ds) {
  ScoreBF16(s, dp, n, seen, last, scale, l, d, p, ds);
}

// The keys that a tile of query rows looks at, in whole tiles of the document: [begin, end).
struct Keys {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
};
Keys KeysOf(int64_t tile, int64_t window) {
  const int64_t first = tile * kTile;
  const int64_t seen = window == 0 ? 0 : std::max<int64_t>(0, first - window + 1);
  return {seen / kTile * kTile, first + kTile};
}
// Of a query row, from the first of `keys`.
int64_t FirstSeen(int64_t row, int64_t window, const Keys& keys) {
  return window == 0 ? 0 : std::max<int64_t>(0, row - window + 1 - keys.begin);
}

template <typename T>
class Worker {
 public:
  Worker(Matmul* matmul, const AttentionShape& shape) : matmul_(matmul), shape_(shape) {}

  void Forward(const Item& item, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
               std::span<float> log_sums) {
    Load(item, k, v);
    for (int64_t head = item.key_head * Group(); head < (item.key_head + 1) * Group(); ++head) {
      CopyHead<T>(q, item, head, Size(), &q_);
      for (int64_t tile = 0; tile * kTile < item.rows; ++tile) {
        const Keys keys = KeysOf(tile, shape_.window);
        Scores(tile, keys);
        const int64_t rows = std::min(kTile, item.rows - tile * kTile);
        std::fill(p_.begin() + rows * keys.count(), p_.begin() + kTile * keys.count(), T());
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t at = tile * kTile + row;
          log_sums[static_cast<size_t>((item.first + at) * shape_.heads + head)] =
              SoftmaxOf(&scores_[static_cast<size_t>(row * keys.count())], keys.count(),
                        FirstSeen(at, shape_.window, keys), at - keys.begin, shape_.scale,
                        &p_[static_cast<size_t>(row * keys.count())]);
        }
        matmul_->Multiply(Of(&p_, 0, kTile, keys.count()), Transpose::kNo,
                          Of(&v_, keys.begin, keys.count(), Size()), Transpose::kNo,
                          Of(&sum_, 0, kTile, Size()), Into::kReplace);
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t i = 0; i < Size(); ++i)
            FromFloat(sum_[static_cast<size_t>(row * Size() + i)],
                      out.Row<T>(item.first + tile * kTile + row) + head * Size() + i);
      }
    }
  }

  void Backward(const Item& item, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                std::span<const float> log_sums, const Matrix& dout, const Matrix& dq, const Matrix& dk,
                const Matrix& dv) {
    Load(item, k, v);
    dk_.assign(k_.size(), 0);
    dv_.assign(k_.size(), 0);
    for (int64_t head = item.key_head * Group(); head < (item.key_head + 1) * Group(); ++head) {
      CopyHead<T>(q, item, head, Size(), &q_);
      CopyHead<T>(dout, item, head, Size(), &dout_);
      dq_.assign(k_.size(), 0);
      for (int64_t tile = 0; tile * kTile < item.rows; ++tile) TileBackward(item, head, tile, out, log_sums);
      StoreHead<T>(dq_, item, head, Size(), dq);
    }
    StoreHead<T>(dk_, item, item.key_head, Size(), dk);
    StoreHead<T>(dv_, item, item.key_head, Size(), dv);
  }

 private:
  int64_t Group() const { return shape_.heads / shape_.key_heads; }
  int64_t Size() const { return shape_.head_size; }

  template <typename V>
  static Matrix Of(std::vector<V>* values, int64_t row, int64_t rows, int64_t columns) {
    HEADRACE_CHECK(static_cast<int64_t>(values->size()) >= (row + rows) * columns);
    return Matrix::Of(values->data() + row * columns, rows, columns);
  }

  void Load(const Item& item, const Matrix& k, const Matrix& v) {
    CopyHead<T>(k, item, item.key_head, Size(), &k_);
    CopyHead<T>(v, item, item.key_head, Size(), &v_);
    const auto most = static_cast<size_t>(kTile * RoundUp(item.rows));
    scores_.resize(most);
    dp_.resize(most);
    p_.resize(most);
    ds_.resize(most);
    sum_.resize(static_cast<size_t>(kTile * Size()));
  }

  // (kTile, keys) = q of the tile · k of the keys
  void Scores(int64_t tile, const Keys& keys) {
    matmul_->Multiply(Of(&q_, tile * kTile, kTile, Size()), Transpose::kNo,
                      Of(&k_, keys.begin, keys.count(), Size()), Transpose::kYes,
                      Of(&scores_, 0, kTile, keys.count()), Into::kReplace);
  }

  void TileBackward(const Item& item, int64_t head, int64_t tile, const Matrix& out,
                    std::span<const float> log_sums) {
    const Keys keys = KeysOf(tile, shape_.window);
    Scores(tile, keys);
    const Matrix dout = Of(&dout_, tile * kTile, kTile, Size());
    const Matrix dp = Of(&dp_, 0, kTile, keys.count());
    matmul_->Multiply(dout, Transpose::kNo, Of(&v_, keys.begin, keys.count(), Size()), Transpose::kYes, dp,
                      Into::kReplace);
    const int64_t rows = std::min(kTile, item.rows - tile * kTile);
    std::fill(p_.begin() + rows * keys.count(), p_.begin() + kTile * keys.count(), T());
    std::fill(ds_.begin() + rows * keys.count(), ds_.begin() + kTile * keys.count(), T());
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = tile * kTile + row;
      const T* y = out.Row<T>(item.first + at) + head * Size();
      float delta = 0;  // the sum of dout · out: of p · dp over the keys
      for (int64_t i = 0; i < Size(); ++i) delta += ToFloat(y[i]) * ToFloat(dout.Row<T>(row)[i]);
      const auto from = static_cast<size_t>(row * keys.count());
      ScoreOf(&scores_[from], &dp_[from], keys.count(), FirstSeen(at, shape_.window, keys), at - keys.begin,
              shape_.scale, log_sums[static_cast<size_t>((item.first + at) * shape_.heads + head)], delta,
              &p_[from], &ds_[from]);
    }
    const Matrix p = Of(&p_, 0, kTile, keys.count());
    const Matrix ds = Of(&ds_, 0, kTile, keys.count());
    matmul_->Multiply(p, Transpose::kYes, dout, Transpose::kNo, Of(&dv_, keys.begin, keys.count(), Size()),
                      Into::kAdd);
    matmul_->Multiply(ds, Transpose::kYes, Of(&q_, tile * kTile, kTile, Size()), Transpose::kNo,
                      Of(&dk_, keys.begin, keys.count(), Size()), Into::kAdd);
    matmul_->Multiply(ds, Transpose::kNo, Of(&k_, keys.begin, keys.count(), Size()), Transpose::kNo,
                      Of(&dq_, tile * kTile, kTile, Size()), Into::kReplace);
  }

  Matmul* matmul_;
  AttentionShape shape_;
  std::vector<T> q_, k_, v_, dout_;  // (rows of the document, rounded up; head_size)
  std::vector<float> dq_, dk_, dv_;  // the same
  std::vector<float> scores_, dp_;   // (kTile, keys)
  std::vector<T> p_, ds_;            // the same
  std::vector<float> sum_;           // (kTile, head_size)
};

void Check(const AttentionShape& shape, std::span<const int64_t> starts, const Matrix& q, const Matrix& k,
           const Matrix& v, size_t log_sums) {
  HEADRACE_CHECK(shape.key_heads > 0 && shape.heads % shape.key_heads == 0);
  HEADRACE_CHECK(q.columns == shape.heads * shape.head_size &&
                 k.columns == shape.key_heads * shape.head_size);
  HEADRACE_CHECK(v.columns == k.columns && k.rows == q.rows && v.rows == q.rows);
  HEADRACE_CHECK(k.type == q.type && v.type == q.type);
  HEADRACE_CHECK(static_cast<int64_t>(log_sums) == q.rows * shape.heads);
  HEADRACE_CHECK(!starts.empty() && starts.front() == 0 && starts.back() == q.rows);
  HEADRACE_CHECK(std::is_sorted(starts.begin(), starts.end()));
}

template <typename F>
void EachItem(Matmul* matmul, const AttentionShape& shape, std::span<const int64_t> starts, DType type,
              F&& work) {
  const std::vector<Item> items = Items(shape, starts);
  const auto all = [&]<typename T>(T) {
#pragma omp parallel
    {
      Worker<T> worker(matmul, shape);
#pragma omp for schedule(dynamic, 1)
      for (size_t i = 0; i < items.size(); ++i) work(&worker, items[i]);
    }
  };
  type == DType::kF32 ? all(float()) : all(BF16());
}

}  // namespace

void Attention(Matmul* matmul, const AttentionShape& shape, std::span<const int64_t> starts, const Matrix& q,
               const Matrix& k, const Matrix& v, const Matrix& out, std::span<float> log_sums) {
  Check(shape, starts, q, k, v, log_sums.size());
  HEADRACE_CHECK(out.rows == q.rows && out.columns == q.columns && out.type == q.type);
  EachItem(matmul, shape, starts, q.type,
           [&](auto* worker, const Item& item) { worker->Forward(item, q, k, v, out, log_sums); });
}

void AttentionBackward(Matmul* matmul, const AttentionShape& shape, std::span<const int64_t> starts,
                       const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                       std::span<const float> log_sums, const Matrix& dout, const Matrix& dq,
                       const Matrix& dk, const Matrix& dv) {
  Check(shape, starts, q, k, v, log_sums.size());
  EachItem(matmul, shape, starts, q.type, [&](auto* worker, const Item& item) {
    worker->Backward(item, q, k, v, out, log_sums, dout, dq, dk, dv);
  });
}

}  // namespace headrace::nn
