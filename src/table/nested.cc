#include "table/nested.h"

#include <arrow/array.h>
#include <arrow/buffer.h>
#include <arrow/type.h>
#include <arrow/util/bit_util.h>

#include <algorithm>

#include "table/arrow_bridge.h"
#include "table/type_arrow.h"

namespace headrace::table {
namespace {

using ArrayPtr = std::shared_ptr<arrow::Array>;
using parquet::Repetition;

Status Misfit() { return Status::Corrupt("a nested column's leaves do not fit together"); }

// A place on the way from the top-level field to a leaf: the node that comes next, and the levels above it.
struct Above {
  size_t node = 0;
  int definition = 0;
  int repetition = 0;
  int listed = 0;  // definition level from which on an entry is one of the innermost list above
};

bool IsSlot(const NestedLeaf& leaf, size_t entry, const Above& above) {
  return leaf.repetition[entry] <= above.repetition && leaf.definition[entry] >= above.listed;
}

// Validity of so many slots.
class Bits {
 public:
  explicit Bits(size_t slots) : valid_(slots, true) {}
  void Null(size_t slot) {
    valid_[slot] = false;
    ++nulls_;
  }
  int64_t nulls() const { return nulls_; }
  // Null where all are valid.
  Result<std::shared_ptr<arrow::Buffer>> Finish() const {
    if (nulls_ == 0) return std::shared_ptr<arrow::Buffer>();
    HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> bits,
                          arrow::AllocateBitmap(static_cast<int64_t>(valid_.size())));
    for (size_t i = 0; i < valid_.size(); ++i)
      arrow::bit_util::SetBitTo(bits->mutable_data(), static_cast<int64_t>(i), valid_[i]);
    return bits;
  }

 private:
  std::vector<bool> valid_;
  int64_t nulls_ = 0;
};

class Assembler {
 public:
  explicit Assembler(const std::map<int32_t, NestedLeaf>& leaves) : leaves_(leaves) {}

  Result<ArrayPtr> Make(const Field& field, Above above) const {
    const NestedLeaf* leaf = FirstLeaf(field);
    if (leaf == nullptr || above.node >= leaf->path.size()) return Misfit();
    const auto node = leaf->path[above.node++];
    if (node == Repetition::REPEATED) return Misfit();
    above.definition += node == Repetition::OPTIONAL;
    switch (field.type.kind) {
      case Kind::kList:
      case Kind::kMap:
        return MakeList(field, *leaf, above);
      case Kind::kStruct:
        return MakeStruct(field, *leaf, above);
      default:
        if (above.node != leaf->path.size()) return Misfit();
        return leaf->values;
    }
  }

 private:
  const NestedLeaf* FirstLeaf(const Field& field) const {
    if (!field.type.children.empty()) return FirstLeaf(field.type.children[0]);
    const auto it = leaves_.find(field.id);
    return it == leaves_.end() ? nullptr : &it->second;
  }

  static size_t Slots(const NestedLeaf& leaf, const Above& above) {
    size_t slots = 0;
    for (size_t i = 0; i < leaf.definition.size(); ++i) slots += IsSlot(leaf, i, above);
    return slots;
  }

  // `above` is past the struct's own node.
  Result<ArrayPtr> MakeStruct(const Field& field, const NestedLeaf& leaf, const Above& above) const {
    Bits valid(Slots(leaf, above));
    size_t slots = 0;
    for (size_t i = 0; i < leaf.definition.size(); ++i) {
      if (!IsSlot(leaf, i, above)) continue;
      if (leaf.definition[i] < above.definition) valid.Null(slots);
      ++slots;
    }
    arrow::ArrayVector children;
    for (const Field& child : field.type.children) {
      HEADRACE_ASSIGN(auto made, Make(child, above));
      if (made->length() != static_cast<int64_t>(slots)) return Misfit();
      children.push_back(std::move(made));
    }
    HEADRACE_ASSIGN(auto bits, valid.Finish());
    return ArrayPtr(std::make_shared<arrow::StructArray>(table::ToArrow(field.type),
                                                         static_cast<int64_t>(slots), std::move(children),
                                                         std::move(bits), valid.nulls()));
  }

  // `above` is past the list's own node; the repeated one comes next.
  Result<ArrayPtr> MakeList(const Field& field, const NestedLeaf& leaf, const Above& above) const {
    if (above.node >= leaf.path.size() || leaf.path[above.node] != Repetition::REPEATED) return Misfit();
    const Above inside{above.node + 1, above.definition + 1, above.repetition + 1, above.definition + 1};
    const size_t slots = Slots(leaf, above);
    Bits valid(slots);
    HEADRACE_ARROW_ASSIGN(std::shared_ptr<arrow::Buffer> offsets,
                          arrow::AllocateBuffer(static_cast<int64_t>(slots + 1) * 4));
    auto* ends = reinterpret_cast<int32_t*>(offsets->mutable_data());
    ends[0] = 0;
    size_t at = 0;
    int64_t elements = 0;
    for (size_t i = 0; i < leaf.definition.size(); ++i) {
      if (IsSlot(leaf, i, above)) {
        if (leaf.definition[i] < above.definition) valid.Null(at);
        ++at;
      }
      if (IsSlot(leaf, i, inside)) {
        if (at == 0) return Misfit();
        ++elements;
      }
      if (elements > INT32_MAX)
        return Status::Limit(
            "one batch would hold more than 2^31 elements of lists; read fewer rows at a time");
      ends[at] = static_cast<int32_t>(elements);
    }
    std::vector<std::shared_ptr<arrow::ArrayData>> child_data;
    for (const Field& child : field.type.children) {
      HEADRACE_ASSIGN(const auto made, Make(child, inside));
      if (made->length() != elements) return Misfit();
      child_data.push_back(made->data());
    }
    const auto type = table::ToArrow(field.type);
    if (field.type.kind == Kind::kMap) {
      if (child_data[0]->GetNullCount() != 0) return Misfit();
      child_data = {arrow::ArrayData::Make(type->field(0)->type(), elements, {nullptr}, child_data, 0)};
    }
    HEADRACE_ASSIGN(auto bits, valid.Finish());
    return arrow::MakeArray(arrow::ArrayData::Make(type, static_cast<int64_t>(slots),
                                                   {std::move(bits), std::move(offsets)},
                                                   std::move(child_data), valid.nulls()));
  }

  const std::map<int32_t, NestedLeaf>& leaves_;
};

}  // namespace

int ListedLevel(const std::vector<Repetition::type>& path) {
  int definition = 0;
  int listed = 0;
  for (const auto node : path) {
    definition += node != Repetition::REQUIRED;
    if (node == Repetition::REPEATED) listed = definition;
  }
  return listed;
}

bool PickEntries(const std::vector<int64_t>& wanted, int64_t page_rows, int max_level, int listed,
                 ListedPage* part, NestedLeaf* leaf) {
  PageView& page = part->page;
  const auto level = [&](size_t i) {
    return page.all_defined ? static_cast<uint32_t>(max_level) : page.levels[i];
  };
  std::vector<uint32_t> kept;  // levels of the innermost list's entries
  int64_t row = -1;
  int64_t slot = 0;
  size_t next = 0;  // of `wanted`
  const auto entries = static_cast<size_t>(page.rows);
  for (size_t i = 0; i < entries;) {
    size_t end = i + 1;
    while (end < entries && !page.repetition.empty() && page.repetition[end] != 0) ++end;
    if (!page.repetition.empty() && page.repetition[i] != 0) return false;  // a page begins with a row
    ++row;
    const int64_t first_slot = slot;
    if (page.all_defined) {
      slot += static_cast<int64_t>(end - i);
    } else {
      for (size_t k = i; k < end; ++k) {
        if (page.levels[k] < static_cast<uint32_t>(listed)) continue;
        kept.push_back(page.levels[k]);
        ++slot;
      }
    }
    if (next < wanted.size() && wanted[next] == row) {
      ++next;
      for (size_t k = i; k < end; ++k) {
        leaf->definition.push_back(static_cast<uint8_t>(level(k)));
        leaf->repetition.push_back(page.repetition.empty() ? 0 : static_cast<uint8_t>(page.repetition[k]));
      }
      for (int64_t k = first_slot; k < slot; ++k) part->picks.push_back(k);
    }
    i = end;
  }
  page.rows = slot;
  page.repetition.clear();
  const auto defined = static_cast<uint32_t>(max_level);
  page.all_defined = std::all_of(kept.begin(), kept.end(), [&](uint32_t level) { return level == defined; });
  page.levels = page.all_defined ? std::vector<uint32_t>() : std::move(kept);
  const bool is_run = !part->picks.empty() && part->picks.back() - part->picks.front() + 1 ==
                                                  static_cast<int64_t>(part->picks.size());
  if (is_run) {
    part->begin = part->picks.front();
    part->end = part->picks.back() + 1;
    part->picks.clear();
  }
  return row + 1 == page_rows && next == wanted.size();
}

Result<ArrayPtr> AssembleNested(const Field& field, const std::map<int32_t, NestedLeaf>& leaves) {
  return Assembler(leaves).Make(field, {});
}

}  // namespace headrace::table
