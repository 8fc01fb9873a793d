// Diffs of random histories, against two whole versions read and compared cell by cell.
#include "table/diff.h"

#include <map>
#include <random>

#include "table/table_testing.h"

namespace headrace::table {
namespace {

using testing::BatchFromJson;
using testing::ReaderOf;

const auto kColumns = arrow::schema({arrow::field("k", arrow::int64()), arrow::field("name", arrow::utf8()),
                                     arrow::field("x", arrow::float64()),
                                     arrow::field("vector", arrow::fixed_size_list(arrow::float32(), 2))});

// A version as text: row id → field id → value.
using Cells = std::map<int64_t, std::map<int32_t, std::string>>;

Cells CellsOf(const View& view) {
  ScanOptions options;
  options.with_row_ids = true;
  const auto whole = testing::ReadAll(view, options).value();
  const auto ids = whole->GetColumnByName("_row_id");
  Cells cells;
  for (int64_t row = 0; row < whole->num_rows(); ++row) {
    const int64_t id = static_cast<const arrow::Int64Array&>(*ids->chunk(0)).Value(row);
    auto& values = cells[id];
    for (const Field& field : view.schema().fields)
      values[field.id] =
          whole->GetColumnByName(field.name)->chunk(0)->GetScalar(row).ValueOrDie()->ToString();
  }
  return cells;
}

struct Found {
  std::vector<int64_t> added, deleted;
  std::map<int64_t, std::vector<std::string>> changed;
  bool operator==(const Found&) const = default;
};

Found Expected(const View& before, const View& after) {
  const Cells a = CellsOf(before);
  const Cells b = CellsOf(after);
  Found found;
  for (const auto& [id, values] : a) {
    if (!b.contains(id)) found.deleted.push_back(id);
  }
  for (const auto& [id, values] : b) {
    if (!a.contains(id)) {
      found.added.push_back(id);
      continue;
    }
    for (const Field& field : after.schema().fields) {
      const auto old = a.at(id).find(field.id);
      if (old != a.at(id).end() && old->second != values.at(field.id))
        found.changed[id].push_back(field.name);
    }
  }
  return found;
}

Found ByDiff(const Diff& diff) {
  Found found;
  int64_t last = -1;
  const auto table = diff.Rows({}).value()->ToTable().ValueOrDie();
  for (const auto& batch : arrow::TableBatchReader(*table).ToRecordBatches().ValueOrDie()) {
    const auto& ids = static_cast<const arrow::Int64Array&>(*batch->column(0));
    const auto& lists = static_cast<const arrow::ListArray&>(*batch->column(2));
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      EXPECT_GT(ids.Value(i), last);  // ascending, each once
      last = ids.Value(i);
      const std::string change = static_cast<const arrow::StringArray&>(*batch->column(1)).GetString(i);
      EXPECT_EQ(lists.IsNull(i), change != "changed");
      if (change == "added") found.added.push_back(last);
      if (change == "deleted") found.deleted.push_back(last);
      if (change != "changed") continue;
      const auto names = std::static_pointer_cast<arrow::StringArray>(lists.value_slice(i));
      for (int64_t n = 0; n < names->length(); ++n) found.changed[last].push_back(names->GetString(n));
    }
  }
  return found;
}

class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {
    catalog_ = Catalog::InitOn(store::NewMemoryStore(), {.threads = 2}).value();
    table_ = testing::MakeTable(catalog_.get(), "t", kColumns).value();
  }
  Table& table() { return *table_; }
  int64_t Next(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  int64_t version() { return table_->At().value().snapshot().version; }

  void Step() {
    switch (Next(9)) {
      case 0:
      case 1:
        EXPECT_OK(table_->Append(ReaderOf({NewRows()}).get(), {}).status());
        break;
      case 2:
        EXPECT_OK(table_->Delete({"k % " + std::to_string(2 + Next(20)) + " = 1"}, {}).status());
        break;
      case 3:
      case 4:
        Update("k % " + std::to_string(1 + Next(30)) + " = 0");
        break;
      case 5:
        EXPECT_OK(table_->Compact({}, {}).status());
        break;
      case 6: {
        const auto restored = table_->Restore(std::to_string(1 + Next(version())), {});
        EXPECT_TRUE(restored.ok()) << restored.status().ToString();
        break;
      }
      case 7: {
        Field field;
        field.name = "extra" + std::to_string(version());
        field.type.kind = Kind::kInt64;
        field.has_default = Next(2) == 0;
        field.default_value = field.has_default ? "7" : "";
        EXPECT_OK(table_->AddEmptyColumns({field}, {}).status());
        break;
      }
      default: {
        const auto names = table_->At().value().schema().fields;
        const std::string name = names[static_cast<size_t>(Next(static_cast<int64_t>(names.size())))].name;
        if (name.starts_with("extra") && Next(2) == 0) {
          EXPECT_OK(table_->DropColumn(name, {}).status());
        } else if (name == "name" || name.starts_with("renamed")) {
          EXPECT_OK(table_->RenameColumn(name, "renamed" + std::to_string(version()), {}).status());
        }
      }
    }
  }

 private:
  std::shared_ptr<arrow::RecordBatch> NewRows() {
    std::string json;
    const int64_t rows = 1 + Next(60);
    const bool named = table_->At().value().schema().Find("name") != nullptr;
    for (int64_t i = 0; i < rows; ++i, ++k_) {
      json += (i ? ", " : "[") + std::string("{\"k\": ") + std::to_string(k_) +
              ", \"x\": " + (Next(5) == 0 ? "null" : std::to_string(Next(3))) +
              (named ? ", \"name\": \"n\"" : "") +
              (Next(4) == 0 ? "" : ", \"vector\": [1, " + std::to_string(Next(3)) + "]") + "}";
    }
    auto fields = kColumns->fields();
    if (!named) fields.erase(fields.begin() + 1);
    return BatchFromJson(arrow::schema(fields), json + "]");
  }

  // x and vector anew; often the values are those that were there.
  void Update(const std::string& where) {
    const auto fn =
        [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      std::string json;
      for (int64_t i = 0; i < in->num_rows(); ++i) {
        json += (i ? ", " : "[") + std::string("{\"x\": ") + std::to_string(Next(3)) + ", \"vector\": [1, " +
                std::to_string(Next(3)) + "]}";
      }
      const auto both = BatchFromJson(arrow::schema({kColumns->field(2), kColumns->field(3)}), json + "]");
      return vectors_ ? both : both->SelectColumns({0}).ValueOrDie();
    };
    vectors_ = Next(2) == 0;
    const std::vector<std::string> columns =
        vectors_ ? std::vector<std::string>{"x", "vector"} : std::vector<std::string>{"x"};
    EXPECT_OK(table_->Update({where}, {"k"}, columns, fn, {}).status());
  }

  std::mt19937_64 random_;
  std::shared_ptr<Catalog> catalog_;
  std::shared_ptr<Table> table_;
  int64_t k_ = 0;
  bool vectors_ = false;
};

TEST(Diff, AgreesWithTwoWholeVersions) {
  int64_t added = 0, deleted = 0, changed = 0;
  for (uint64_t seed = 0; seed < static_cast<uint64_t>(testing::Scaled(60)); ++seed) {
    History history(seed);
    for (int step = 0; step < 25; ++step) history.Step();
    for (int pair = 0; pair < 8; ++pair) {
      const auto pick = [&] { return std::to_string(1 + history.Next(history.version())); };
      const std::string from = pick();
      const std::string to = pick();
      ASSERT_VALUE(const View before, history.table().At(from));
      ASSERT_VALUE(const View after, history.table().At(to));
      ASSERT_VALUE(const Diff diff, Diff::Between(before, after));
      const Found expected = Expected(before, after);
      const Found found = ByDiff(diff);
      ASSERT_EQ(found.added, expected.added) << "seed " << seed << ", v" << from << " to v" << to;
      ASSERT_EQ(found.deleted, expected.deleted) << "seed " << seed << ", v" << from << " to v" << to;
      ASSERT_EQ(found.changed, expected.changed) << "seed " << seed << ", v" << from << " to v" << to;
      ASSERT_VALUE(const DiffCounts counts, diff.Count({}));
      EXPECT_EQ(counts.added, static_cast<int64_t>(expected.added.size()));
      EXPECT_EQ(counts.deleted, static_cast<int64_t>(expected.deleted.size()));
      EXPECT_EQ(counts.changed, static_cast<int64_t>(expected.changed.size()));
      EXPECT_EQ(counts.same + counts.changed + counts.added, after.snapshot().rows);
      std::map<std::string, int64_t> by_column, found_by_column;
      for (const auto& [id, columns] : expected.changed) {
        for (const auto& column : columns) ++by_column[column];
      }
      for (size_t i = 0; i < diff.columns().size(); ++i) {
        if (counts.changed_in[i] > 0) found_by_column[*diff.columns()[i].after] = counts.changed_in[i];
      }
      EXPECT_EQ(by_column, found_by_column);
      added += counts.added, deleted += counts.deleted, changed += counts.changed;
    }
  }
  EXPECT_GT(added, testing::Scaled(300));  // and there was something to find
  EXPECT_GT(deleted, testing::Scaled(300));
  EXPECT_GT(changed, testing::Scaled(300));
}

// Where fragments and files are the same, no value is read: neither of the rows that did not change.
TEST(Diff, ReadsOnlyWhatMayDiffer) {
  History history(1);
  while (history.version() < 2) history.Step();
  std::string json = "[";
  for (int i = 0; i < 5000; ++i)
    json += (i ? "," : "") + std::string("{\"k\": ") + std::to_string(100'000 + i) + ", \"x\": 0.5}";
  const auto rows = BatchFromJson(arrow::schema({kColumns->field(0), kColumns->field(2)}), json + "]");
  EXPECT_OK(history.table().Append(ReaderOf({rows}).get(), {}).status());
  const View before = history.table().At().value();
  EXPECT_OK(history.table().Append(ReaderOf({rows}).get(), {}).status());
  EXPECT_OK(history.table().Delete({"k = 100000"}, {}).status());
  const View grown = history.table().At().value();
  ASSERT_VALUE(const Diff diff, Diff::Between(before, grown));
  ASSERT_VALUE(const DiffCounts counts, diff.Count({}));
  EXPECT_EQ(counts.added, 4999);
  EXPECT_EQ(counts.deleted, 1);
  EXPECT_EQ(counts.changed, 0);
  EXPECT_EQ(diff.before().reader().bytes_read() + diff.after().reader().bytes_read(), 0);
  const auto fn = [](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
    arrow::DoubleBuilder x;
    for (int64_t i = 0; i < in->num_rows(); ++i) EXPECT_TRUE(x.Append(9).ok());
    return arrow::RecordBatch::Make(arrow::schema({kColumns->field(2)}), in->num_rows(),
                                    {x.Finish().ValueOrDie()});
  };
  EXPECT_OK(history.table().Update({"k = 103000"}, {"k"}, {"x"}, fn, {}).status());
  ASSERT_VALUE(const Diff updated, Diff::Between(grown, history.table().At().value()));
  ASSERT_VALUE(const DiffCounts one, updated.Count({}));
  EXPECT_EQ(one.changed, 2);  // the rows of both appends
  // Two pages of one column, not all 10,000 rows.
  EXPECT_LT(updated.before().reader().bytes_read(), 3 * 2'048 * 8);
}

TEST(Diff, SaysWhatHappenedToColumns) {
  History history(2);
  EXPECT_OK(history.table().RenameColumn("name", "title", {}).status());
  EXPECT_OK(history.table().DropColumn("x", {}).status());
  Field extra;
  extra.name = "x";  // another column of an old name
  EXPECT_OK(history.table().AddEmptyColumns({extra}, {}).status());
  ASSERT_VALUE(const Diff diff, Diff::Between(history.table().At("1").value(), history.table().At().value()));
  std::vector<std::string> told;
  for (const auto& column : diff.columns())
    told.push_back(column.before.value_or("-") + ">" + column.after.value_or("-"));
  EXPECT_EQ(told, (std::vector<std::string>{"k>k", "name>title", "vector>vector", "->x", "x>-"}));
  EXPECT_FALSE(Diff::Between(history.table().At("1").value(), History(3).table().At().value()).ok());
}

TEST(Diff, StopsWhenItIsAsked) {
  History history(4);
  while (history.table().At().value().snapshot().rows == 0) history.Step();
  ASSERT_VALUE(const Diff diff, Diff::Between(history.table().At("1").value(), history.table().At().value()));
  StopSource stop;
  stop.Stop();
  EXPECT_TRUE(diff.Count(stop.token()).status().Is(Code::kCancelled));
}

}  // namespace
}  // namespace headrace::table
