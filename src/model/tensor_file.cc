#include "model/tensor_file.h"

#include <fcntl.h>
#include <ggml.h>
#include <gguf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "base/check.h"
#include "base/file.h"
#include "base/mapped_file.h"

namespace headrace::model {
namespace {

template <typename T>
double NumberAt(const void* data, size_t i) {
  return static_cast<double>(static_cast<const T*>(data)[i]);
}

// Element `i` of values of a type that lie at `data`.
std::optional<double> NumberOf(gguf_type type, const void* data, size_t i) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return NumberAt<uint8_t>(data, i);
    case GGUF_TYPE_INT8:
      return NumberAt<int8_t>(data, i);
    case GGUF_TYPE_UINT16:
      return NumberAt<uint16_t>(data, i);
    case GGUF_TYPE_INT16:
      return NumberAt<int16_t>(data, i);
    case GGUF_TYPE_UINT32:
      return NumberAt<uint32_t>(data, i);
    case GGUF_TYPE_INT32:
      return NumberAt<int32_t>(data, i);
    case GGUF_TYPE_UINT64:
      return NumberAt<uint64_t>(data, i);
    case GGUF_TYPE_INT64:
      return NumberAt<int64_t>(data, i);
    case GGUF_TYPE_FLOAT32:
      return NumberAt<float>(data, i);
    case GGUF_TYPE_FLOAT64:
      return NumberAt<double>(data, i);
    case GGUF_TYPE_BOOL:
      return NumberAt<int8_t>(data, i);
    default:
      return std::nullopt;
  }
}

class GgufTensors : public TensorFile {
 public:
  static Result<std::shared_ptr<const TensorFile>> Open(const std::string& path) {
    const std::shared_ptr<GgufTensors> opened(new GgufTensors(path));
    HEADRACE_TRY(opened->Read());
    return std::shared_ptr<const TensorFile>(opened);
  }
  const std::string& path() const override { return path_; }
  const std::vector<TensorFacts>& tensors() const override { return tensors_; }

  const TensorFacts* Find(std::string_view name) const override {
    const auto found = numbers_.find(std::string(name));
    return found == numbers_.end() ? nullptr : &tensors_[found->second];
  }

  Status Read(const TensorFacts& tensor, int64_t first, int64_t count, float* out) const override {
    const auto number = static_cast<int64_t>(&tensor - tensors_.data());
    HEADRACE_CHECK(number >= 0 && number < static_cast<int64_t>(tensors_.size()) && first >= 0 &&
                   count >= 0 && first + count <= tensor.rows());
    const ggml_type type = gguf_get_tensor_type(file_.get(), number);
    const int64_t columns = tensor.columns();
    const size_t row = ggml_row_size(type, columns);
    const uint8_t* from = mapped_->data() + gguf_get_data_offset(file_.get()) +
                          gguf_get_tensor_offset(file_.get(), number) + static_cast<size_t>(first) * row;
    const ggml_to_float_t turn = ggml_get_type_traits(type)->to_float;
    if (type == GGML_TYPE_F32) {
      std::copy_n(reinterpret_cast<const float*>(from), count * columns, out);
    } else if (turn != nullptr) {
      for (int64_t i = 0; i < count; ++i)
        turn(from + static_cast<size_t>(i) * row, out + i * columns, columns);
    } else {
      return Status::Unsupported(path_ + ": " + tensor.name + " is stored as " + tensor.type +
                                 ", which cannot be turned to numbers here");
    }
    return mapped_->CheckWhole();
  }

  std::optional<std::string> Text(std::string_view key) const override {
    const int64_t at = Key(key);
    if (at < 0 || gguf_get_kv_type(file_.get(), at) != GGUF_TYPE_STRING) return std::nullopt;
    return gguf_get_val_str(file_.get(), at);
  }
  std::optional<double> Number(std::string_view key) const override {
    const int64_t at = Key(key);
    if (at < 0) return std::nullopt;
    const gguf_type type = gguf_get_kv_type(file_.get(), at);
    if (type == GGUF_TYPE_STRING || type == GGUF_TYPE_ARRAY) return std::nullopt;
    return NumberOf(type, gguf_get_val_data(file_.get(), at), 0);
  }
  std::optional<std::vector<double>> Numbers(std::string_view key) const override {
    const int64_t at = Key(key);
    if (at < 0 || gguf_get_kv_type(file_.get(), at) != GGUF_TYPE_ARRAY) return std::nullopt;
    const gguf_type type = gguf_get_arr_type(file_.get(), at);
    if (type == GGUF_TYPE_STRING || type == GGUF_TYPE_ARRAY) return std::nullopt;
    std::vector<double> values;
    for (size_t i = 0; i < gguf_get_arr_n(file_.get(), at); ++i)
      values.push_back(NumberOf(type, gguf_get_arr_data(file_.get(), at), i).value_or(0));
    return values;
  }

 private:
  explicit GgufTensors(std::string path) : path_(std::move(path)), file_(nullptr, gguf_free) {}
  int64_t Key(std::string_view key) const { return gguf_find_key(file_.get(), std::string(key).c_str()); }

  Status Read() {
    const Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) return Status::FromErrno(errno, "open", path_);
    struct stat about {};
    if (fstat(fd.get(), &about) != 0) return Status::FromErrno(errno, "look at", path_);
    if (about.st_size == 0) return Status::Corrupt(path_ + " is empty");
    HEADRACE_ASSIGN(mapped_, MappedFile::Map(fd.get(), about.st_size, path_));
    file_.reset(gguf_init_from_file(path_.c_str(), {.no_alloc = true, .ctx = nullptr}));
    if (!file_) return Status::Corrupt(path_ + " is not a GGUF file that can be read");
    if (Number("split.count").value_or(1) > 1)
      return Status::Unsupported(path_ +
                                 " is one of several files of a model: join them with llama-gguf-split");
    const auto start = static_cast<int64_t>(gguf_get_data_offset(file_.get()));
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.get()); ++i) {
      const auto offset = static_cast<int64_t>(gguf_get_tensor_offset(file_.get(), i));
      const auto size = static_cast<int64_t>(gguf_get_tensor_size(file_.get(), i));
      const int64_t left = mapped_->size() - start;
      TensorFacts facts{.name = gguf_get_tensor_name(file_.get(), i),
                        .type = ggml_type_name(gguf_get_tensor_type(file_.get(), i)),
                        .shape = {}};
      if (left < 0 || offset < 0 || size < 0 || offset > left || size > left - offset)
        return Status::Corrupt(path_ + " ends within " + facts.name);
      const int64_t* extents = gguf_get_tensor_ne(file_.get(), i);
      int dims = GGML_MAX_DIMS;
      while (dims > 1 && extents[dims - 1] == 1) --dims;
      for (int d = dims; d-- > 0;) facts.shape.push_back(extents[d]);
      numbers_.emplace(facts.name, tensors_.size());
      tensors_.push_back(std::move(facts));
    }
    return Status::Ok();
  }

  std::string path_;
  std::unique_ptr<gguf_context, void (*)(gguf_context*)> file_;
  std::shared_ptr<const MappedFile> mapped_;
  std::vector<TensorFacts> tensors_;
  std::unordered_map<std::string, size_t> numbers_;
};

}  // namespace

int64_t TensorFacts::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

Result<std::shared_ptr<const TensorFile>> TensorFile::Open(const std::string& path) {
  return GgufTensors::Open(path);
}

}  // namespace headrace::model
