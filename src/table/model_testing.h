// A table and an oracle of it in memory, which random steps change alike: what the model test and the
// simulation share.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "store/faulty_store.h"
#include "table/table_testing.h"

namespace headrace::table {

using testing::BatchFromJson;
using testing::ReadAll;
using testing::ReaderOf;

using Cell = std::optional<int64_t>;
struct Oracle {
  std::vector<std::string> columns = {"c0"};
  std::vector<std::map<std::string, Cell>> rows;  // by row id; a missing key is a hole
  std::set<int64_t> gone;                         // ids of those deleted

  std::vector<int64_t> Live() const {
    std::vector<int64_t> ids;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (!gone.contains(static_cast<int64_t>(i))) ids.push_back(static_cast<int64_t>(i));
    }
    return ids;
  }
  Cell At(int64_t id, const std::string& name) const {
    const auto& row = rows[static_cast<size_t>(id)];
    const auto it = row.find(name);
    return it == row.end() ? Cell() : it->second;
  }
};

class Model {
 public:
  Model(uint64_t seed, const std::shared_ptr<store::ObjectStore>& store)
      : random_(seed), store_(store::NewFaultyStore(store)) {}
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  void Run(int steps) {
    auto made = Catalog::InitOn(store_, {.threads = 1});
    ASSERT_TRUE(made.ok());
    Schema schema;
    schema.fields = {Field{-1, "c0", Type{}, "", false}};
    ASSERT_TRUE((*made)->CreateTable("t", schema).ok());
    for (int w = 0; w < 3; ++w) {
      catalogs_.push_back(*Catalog::OpenOn(store_, {.threads = 1}));
      tables_.push_back(*catalogs_.back()->OpenTable("t"));
    }
    for (int step = 0; step < steps; ++step) {
      store_->Arm({.probability = 0.002,
                   .kinds = {store::Fault::kAmbiguous, store::Fault::kDuplicate},
                   .seed = random_(),
                   .hang_ms = 0});
      Step(*tables_[random_() % tables_.size()]);
      store_->Arm({});
      if (HasFailure()) {
        ADD_FAILURE() << "at step " << step;
        return;
      }
      if (step % 2'000 == 1'999) CheckNow();
      if (step + 1 == steps) CheckAll();
    }
    if (!HasFailure()) Finished(steps);
  }

 protected:
  // All of this happened, in as many steps.
  virtual void Finished(int steps) {
    if (steps >= 1'000) {  // of fewer, few are collections
      EXPECT_GT(deleted_, steps / 50);
    }
    if (steps >= 5'000) {
      EXPECT_GT(filled_, 0);
      EXPECT_GT(overtaken_, 0);
    }
  }

  static bool HasFailure() { return ::testing::Test::HasFailure(); }
  Table& Any() { return *tables_[random_() % tables_.size()]; }

  virtual void Step(Table& table) {
    switch (random_() % 20) {
      case 0:
        return AddColumn(table);
      case 1:
        return Rename(table);
      case 2:
        return Drop(table);
      case 3:
        return Tag(table);
      case 4:
      case 5:
      case 6:
        return TakeSome(table);
      case 7:
        return Delete(table);
      case 8:
      case 9:
        return Update(table);
      case 10:
      case 11:
        return Merge(table);
      case 12:
        return Restore(table);
      case 13:
        return Compact(table);
      case 14:
        return Collect(table);
      default:
        return Append(table);
    }
  }

  void Append(Table& table) {
    arrow::FieldVector fields;
    std::vector<std::string> used;
    for (const auto& name : oracle_.columns) {
      if (used.empty() || random_() % 4 != 0) used.push_back(name);
    }
    const auto rows = static_cast<int64_t>(1 + random_() % 4);
    std::vector<std::map<std::string, Cell>> fresh(static_cast<size_t>(rows));
    arrow::ArrayVector arrays;
    for (const auto& name : used) {
      arrow::Int64Builder builder;
      for (auto& row : fresh) {
        const Cell cell = random_() % 5 == 0 ? Cell() : Cell(static_cast<int64_t>(random_() % 100));
        row[name] = cell;
        ASSERT_TRUE((cell ? builder.Append(*cell) : builder.AppendNull()).ok());
      }
      fields.push_back(arrow::field(name, arrow::int64()));
      arrays.push_back(builder.Finish().ValueOrDie());
    }
    const auto batch = arrow::RecordBatch::Make(arrow::schema(fields), rows, arrays);
    CommitOptions options;
    options.writer = "w" + std::to_string(random_() % 3);
    options.sequence = ++sequences_[options.writer];
    // An ambiguous answer on a data file ends the attempt; trying again is exactly-once.
    for (int attempt = 0;; ++attempt) {
      const auto done = table.Append(ReaderOf({batch}).get(), options);
      if (done.ok()) break;
      ASSERT_TRUE(done.status().Is(Code::kTimeout) || done.status().Is(Code::kUnavailable))
          << done.status().ToString();
      ASSERT_LT(attempt, 20);
    }
    oracle_.rows.insert(oracle_.rows.end(), fresh.begin(), fresh.end());
  }

  // Operations without a sequence number: the store is calm, since trying them again is the caller's
  // judgement.
  void AddColumn(Table& table) {
    if (oracle_.columns.size() >= 6) return;
    store_->Arm({});
    const std::string name = "n" + std::to_string(next_name_++);
    // On many fragments a computed column is a file for each: done while they are some hundreds.
    if (oracle_.Live().empty() || oracle_.rows.size() > 1'000 || random_() % 2 == 0) {
      ASSERT_OK(table.AddEmptyColumns({Field{-1, name, Type{}, "", false}}, {}).status());
    } else {
      const std::string input = oracle_.columns[random_() % oracle_.columns.size()];
      const size_t rows = oracle_.rows.size();
      bool first = true;
      const auto add_one =
          [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
        if (std::exchange(first, false)) Meanwhile();
        arrow::Int64Builder out;
        const auto& values = static_cast<const arrow::Int64Array&>(*in->column(0));
        for (int64_t i = 0; i < values.length(); ++i)
          (void)(values.IsNull(i) ? out.AppendNull() : out.Append(values.Value(i) + 1));
        return arrow::RecordBatch::Make(arrow::schema({arrow::field(name, arrow::int64())}), in->num_rows(),
                                        {out.Finish().ValueOrDie()});
      };
      const auto added = table.AddColumns({input}, add_one, {});
      if (added.status().Is(Code::kConflict)) {
        ++overtaken_;
        return;
      }
      ASSERT_OK(added.status());
      ++filled_;
      // Of rows that were there when it began; what they were computed from is what is there now.
      for (const int64_t id : oracle_.Live()) {
        if (static_cast<size_t>(id) >= rows) continue;
        const Cell cell = oracle_.At(id, input);
        oracle_.rows[static_cast<size_t>(id)][name] = cell ? Cell(*cell + 1) : Cell();
      }
    }
    oracle_.columns.push_back(name);
  }
  // What others do while a column is being computed.
  virtual void Meanwhile() {
    for (uint64_t steps = random_() % 5; steps > 0; --steps) {
      Table& table = Any();
      switch (random_() % 8) {
        case 0:
          Restore(table);
          break;
        case 1:
          Update(table);
          break;
        case 2:
          Delete(table);
          break;
        case 3:
          Append(table);
          break;
        default:
          CompactNow(table);
      }
    }
    store_->Arm({});
  }
  void Rename(Table& table) {
    store_->Arm({});
    std::string& name = oracle_.columns[random_() % oracle_.columns.size()];
    const std::string to = "r" + std::to_string(next_name_++);
    ASSERT_OK(table.RenameColumn(name, to, {}).status());
    for (auto& row : oracle_.rows) {
      const auto it = row.find(name);
      if (it == row.end()) continue;
      row[to] = it->second;
      row.erase(name);
    }
    name = to;
  }
  void Drop(Table& table) {
    if (oracle_.columns.size() < 2) return;
    store_->Arm({});
    const size_t index = random_() % oracle_.columns.size();
    const std::string name = oracle_.columns[index];
    ASSERT_OK(table.DropColumn(name, {}).status());
    for (auto& row : oracle_.rows) row.erase(name);
    oracle_.columns.erase(oracle_.columns.begin() + static_cast<std::ptrdiff_t>(index));
  }
  void Tag(Table& table) {
    store_->Arm({});
    if (oracle_.rows.size() > 2000) return;  // remembered whole
    const std::string tag = "t" + std::to_string(next_name_++);
    ASSERT_OK(table.Tag(tag, "", false, {}).status());
    if (tagged_.size() < 5) tagged_[tag] = oracle_;
  }

  std::string AnyColumn() { return oracle_.columns[random_() % oracle_.columns.size()]; }

  // Some values of a column, or some ids.
  void Delete(Table& table) {
    store_->Arm({});
    const auto live = oracle_.Live();
    if (live.size() < 10) return;
    RowFilter rows;
    std::set<int64_t> wanted;
    if (random_() % 2 == 0) {
      rows.ids.emplace();
      for (int i = 0; i < 3; ++i) rows.ids->push_back(live[random_() % live.size()]);
      wanted.insert(rows.ids->begin(), rows.ids->end());
    } else {
      const std::string column = AnyColumn();
      const auto value = static_cast<int64_t>(random_() % 100);
      rows.where = column + " = " + std::to_string(value);
      for (const int64_t id : live) {
        if (oracle_.At(id, column) == Cell(value)) wanted.insert(id);
      }
    }
    ASSERT_VALUE(const auto done, table.Delete(rows, {}));
    ASSERT_EQ(done.rows, static_cast<int64_t>(wanted.size()));
    oracle_.gone.insert(wanted.begin(), wanted.end());
  }

  // Adds one to a column where another is in a range: few rows or most.
  void Update(Table& table) {
    store_->Arm({});
    const std::string column = AnyColumn();
    const std::string by = AnyColumn();
    const auto low = static_cast<int64_t>(random_() % 100);
    const auto high = low + static_cast<int64_t>(random_() % 4 == 0 ? 90 : 3);
    const auto add_one =
        [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
      arrow::Int64Builder out;
      const auto& values = static_cast<const arrow::Int64Array&>(*in->column(0));
      for (int64_t i = 0; i < values.length(); ++i)
        (void)(values.IsNull(i) ? out.Append(0) : out.Append((values.Value(i) + 1) % 100));
      return arrow::RecordBatch::Make(arrow::schema({arrow::field(column, arrow::int64())}), in->num_rows(),
                                      {out.Finish().ValueOrDie()});
    };
    const std::string where = by + " between " + std::to_string(low) + " and " + std::to_string(high);
    ASSERT_VALUE(const auto done, table.Update({where}, {column}, {column}, add_one, {}));
    std::vector<int64_t> wanted;
    for (const int64_t id : oracle_.Live()) {
      const Cell cell = oracle_.At(id, by);
      if (cell && *cell >= low && *cell <= high) wanted.push_back(id);
    }
    ASSERT_EQ(done.rows, static_cast<int64_t>(wanted.size()));
    for (const int64_t id : wanted) {
      const Cell cell = oracle_.At(id, column);
      oracle_.rows[static_cast<size_t>(id)][column] = cell ? (*cell + 1) % 100 : 0;
    }
  }

  // Two keys, of which each updates or deletes what has it, or is added.
  void Merge(Table& table) {
    store_->Arm({});
    if (oracle_.columns.size() < 2) return;
    const std::string key = oracle_.columns[random_() % oracle_.columns.size()];
    const std::string value = oracle_.columns[random_() % oracle_.columns.size()];
    if (key == value) return;
    const auto first = static_cast<int64_t>(random_() % 98);
    const std::vector<std::pair<int64_t, int64_t>> source = {{first, 7}, {first + 1, 8}};
    const auto columns =
        arrow::schema({arrow::field(key, arrow::int64()), arrow::field(value, arrow::int64())});
    std::string json;
    for (const auto& [k, v] : source) {
      json += (json.empty() ? "[" : ",") + std::string("{\"") + key + "\":" + std::to_string(k) + ",\"" +
              value + "\":" + std::to_string(v) + "}";
    }
    MergeOptions rules;
    rules.on = {key};
    if (random_() % 8 == 0) rules.matched = MergeOptions::Matched::kDelete;
    rules.add = random_() % 2 == 0;
    ASSERT_VALUE(const auto done,
                 table.Merge(ReaderOf({BatchFromJson(columns, json + "]")}).get(), rules, {}));
    int64_t matched = 0;
    const auto live = oracle_.Live();
    for (const auto& [k, v] : source) {
      bool found = false;
      for (const int64_t id : live) {
        if (oracle_.At(id, key) != Cell(k)) continue;
        found = true;
        ++matched;
        if (rules.matched == MergeOptions::Matched::kDelete) {
          oracle_.gone.insert(id);
        } else {
          oracle_.rows[static_cast<size_t>(id)][value] = v;
        }
      }
      if (!found && rules.add) oracle_.rows.push_back({{key, Cell(k)}, {value, Cell(v)}});
    }
    ASSERT_EQ(done.updated + done.deleted, matched);
  }

  void Compact(Table& table) {
    store_->Arm({});
    if (random_() % 4 == 0) CompactNow(table);
  }
  void CompactNow(Table& table) {
    CompactOptions options;
    options.fragment_rows = 1 + static_cast<int64_t>(random_() % 300);
    options.commit_bytes = random_() % 2 == 0 ? 1 : INT64_MAX;
    if (random_() % 4 == 0) {
      std::vector<std::string> key;
      for (const auto& name : oracle_.columns) {
        if (key.size() < 2 && random_() % 2 == 0) key.push_back(name);
      }
      ASSERT_OK(table.SortBy(key, {}).status());
    }
    ASSERT_OK(table.Compact(options, {}).status());
  }

  // All but the newest version and those with tags expires, and their files go.
  virtual void Collect(Table& table) {
    store_->Arm({});
    if (random_() % 8 != 0) return;
    CollectOptions options{.keep_us = 1, .grace_us = 0};
    options.dry_run = random_() % 4 == 0;
    ASSERT_VALUE(const auto done, table.Collect(options, {}));
    ASSERT_TRUE(done.damaged.empty()) << done.damaged[0];
    deleted_ += options.dry_run ? 0 : done.deleted.objects;
  }

  void Restore(Table& table) {
    store_->Arm({});
    if (tagged_.empty() || random_() % 4 != 0) return;
    auto it = tagged_.begin();
    std::advance(it, random_() % tagged_.size());
    ASSERT_OK(table.Restore(it->first, {}).status());
    const size_t ids = oracle_.rows.size();
    oracle_ = it->second;
    for (size_t id = oracle_.rows.size(); id < ids; ++id) oracle_.gone.insert(static_cast<int64_t>(id));
    oracle_.rows.resize(ids);
  }

  static void Compare(const Oracle& oracle, const arrow::RecordBatch& got, const std::vector<int64_t>& ids) {
    for (const auto& name : oracle.columns) {
      const auto column = std::static_pointer_cast<arrow::Int64Array>(got.GetColumnByName(name));
      ASSERT_TRUE(column) << name;
      for (size_t i = 0; i < ids.size(); ++i) {
        const Cell want = oracle.At(ids[i], name);
        const auto at = static_cast<int64_t>(i);
        const Cell have = column->IsNull(at) ? Cell() : Cell(column->Value(at));
        ASSERT_EQ(have, want) << "row " << ids[i] << " column " << name;
      }
    }
  }

  void TakeSome(Table& table) {
    const auto live = oracle_.Live();
    if (live.empty()) return;
    store_->Arm({});
    ASSERT_VALUE(const View view, table.At());
    ASSERT_EQ(view.snapshot().rows, static_cast<int64_t>(live.size()));
    std::vector<int64_t> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(live[random_() % live.size()]);
    ASSERT_VALUE(const auto batch, view.Take(ids, {}));
    Compare(oracle_, *batch, ids);
  }

  // The result of a scan with row ids: the order of rows is that of their fragments.
  static void CompareAll(const Oracle& oracle, const arrow::Table& all) {
    std::vector<int64_t> ids;
    if (all.num_rows() > 0) {
      const auto batch = all.CombineChunksToBatch().ValueOrDie();
      const auto& given =
          static_cast<const arrow::Int64Array&>(*batch->GetColumnByName(std::string(kRowIdColumn)));
      for (int64_t i = 0; i < given.length(); ++i) ids.push_back(given.Value(i));
      Compare(oracle, *batch, ids);
      std::sort(ids.begin(), ids.end());
    }
    ASSERT_EQ(ids, oracle.Live());
  }

  static void Check(const View& view, const Oracle& oracle) {
    ASSERT_VALUE(const auto all, ReadAll(view, {.with_row_ids = true}));
    CompareAll(oracle, *all);
    const std::string& column = oracle.columns[0];
    ASSERT_VALUE(const int64_t counted, view.Count(column + " < 50"));
    int64_t expected = 0;
    for (const int64_t id : oracle.Live()) {
      const Cell cell = oracle.At(id, column);
      expected += cell && *cell < 50;
    }
    ASSERT_EQ(counted, expected);
  }
  // What the table holds now is what the oracle does.
  void CheckNow() {
    ASSERT_VALUE(const View now, Any().At());
    Check(now, oracle_);
  }
  void CheckAll() {
    CheckNow();
    for (const auto& [tag, oracle] : tagged_) {
      ASSERT_VALUE(const View then, Any().At(tag));
      Check(then, oracle);
    }
  }

  std::mt19937_64 random_;
  std::shared_ptr<store::FaultyStore> store_;
  std::vector<std::shared_ptr<Catalog>> catalogs_;
  std::vector<std::shared_ptr<Table>> tables_;
  Oracle oracle_;
  std::map<std::string, Oracle> tagged_;
  std::map<std::string, int64_t> sequences_;
  int next_name_ = 0;
  int64_t deleted_ = 0;    // objects, by collection
  int64_t filled_ = 0;     // columns computed from others
  int64_t overtaken_ = 0;  // fills that others' commits refused
};

}  // namespace headrace::table
