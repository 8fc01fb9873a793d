// What the tests of spools and committers share.
#pragma once

#include <arrow/api.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "testing.h"
#include "trace/committer.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::trace {

using nlohmann::json;
using testing::MemoryFolder;
using testing::Scaled;
using testing::TempFolder;

inline std::string Start(const std::string& id) {
  return json{{"id", id}, {"started", 1}, {"endpoint", "/v1/completions"}, {"prompt", "p " + id}}.dump();
}
inline std::string End(const std::string& id) {
  return json{{"id", id}, {"ended", 2}, {"finish", "stop"}, {"answer", "a " + id}, {"answer_tokens", 3}}
      .dump();
}

struct Row {
  std::string prompt, answer, finish;
  bool operator==(const Row&) const = default;
};
using RowsById = std::multimap<std::string, Row>;

inline void AddRows(const arrow::RecordBatch& batch, RowsById* rows) {
  const auto text = [&](const char* name, int64_t i) {
    const auto& column = static_cast<const arrow::StringArray&>(*batch.GetColumnByName(name));
    return column.IsNull(i) ? std::string("-") : column.GetString(i);
  };
  for (int64_t i = 0; i < batch.num_rows(); ++i)
    rows->emplace(text("id", i), Row{text("prompt", i), text("answer", i), text("finish", i)});
}

// RowsById of the table alone, or with what lies in the spools.
inline RowsById Read(const std::shared_ptr<table::Catalog>& catalog, bool tail) {
  RowsById rows;
  for (;;) {
    rows.clear();
    const auto table = OpenOrCreate(catalog.get(), kTraces);
    EXPECT_TRUE(table.ok()) << table.status().ToString();
    const auto view = (*table)->At();
    EXPECT_TRUE(view.ok());
    const auto reader = view->Scan({});
    EXPECT_TRUE(reader.ok());
    std::shared_ptr<arrow::RecordBatch> batch;
    while ((*reader)->ReadNext(&batch).ok() && batch) AddRows(*batch, &rows);
    if (!tail) return rows;
    const auto rest = Tail(*catalog, kTraces, *view);
    if (!rest.ok() && rest.status().Is(Code::kConflict)) continue;
    EXPECT_TRUE(rest.ok()) << rest.status().ToString();
    AddRows(**rest, &rows);
    return rows;
  }
}

inline std::vector<std::pair<Kind, std::string>> ReadAll(const std::string& folder,
                                                         std::vector<std::string>* complaints = nullptr) {
  std::vector<std::pair<Kind, std::string>> records;
  const auto report = ReadSpool(folder, {}, [&](const Record& record) {
    records.emplace_back(record.kind, std::string(record.payload));
    return Status::Ok();
  });
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  if (complaints != nullptr && report.ok()) *complaints = report->complaints;
  return records;
}

// A request that began and ended, in the spool and among the rows that the table is to have.
inline void AddEnded(Spool* spool, const std::string& id, RowsById* wanted) {
  ASSERT_OK(spool->Append(Kind::kStart, Start(id)));
  ASSERT_OK(spool->Append(Kind::kEnd, End(id)));
  wanted->emplace(id, Row{"p " + id, "a " + id, "stop"});
}

}  // namespace headrace::trace
