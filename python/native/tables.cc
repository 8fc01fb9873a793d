// Versions of tables, and what is done to them.
#include <arrow/array.h>
#include <arrow/table.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "ingest/image_facts.h"
#include "module.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/default_value.h"
#include "table/keys.h"
#include "table/settle.h"

namespace headrace::python {
namespace {

table::ScanOptions ScanOptionsOf(std::vector<std::string> columns, std::string where, int64_t limit,
                                 int64_t batch_rows, bool row_ids) {
  table::ScanOptions options;
  options.columns = std::move(columns);
  options.where = std::move(where);
  options.limit = limit;
  options.batch_rows = batch_rows;
  options.with_row_ids = row_ids;
  return options;
}

// All rows of a reader as one batch; null if it has none.
Result<std::shared_ptr<arrow::RecordBatch>> Whole(arrow::RecordBatchReader* rows) {
  const auto table = rows->ToTable();
  if (!table.ok()) return table::FromArrow(table.status());
  if ((*table)->num_rows() == 0) return std::shared_ptr<arrow::RecordBatch>();
  auto joined = (*table)->CombineChunksToBatch();
  if (!joined.ok()) return table::FromArrow(joined.status());
  return *joined;
}

}  // namespace

table::CommitOptions CommitOf(const std::string& why, const std::string& writer, int64_t sequence,
                              const StopToken& stop, int64_t since) {
  table::CommitOptions options;
  options.why = why;
  options.how = "python";
  options.writer = writer;
  options.sequence = sequence;
  options.since = since;
  options.stop = stop;
  return options;
}

nb::dict ToDict(const table::CommitResult& result) {
  nb::dict dict;
  dict["version"] = result.version;
  dict["rows"] = result.rows;
  dict["bytes"] = result.bytes;
  dict["fragments"] = result.fragments;
  dict["repeated"] = result.repeated;
  return dict;
}

table::Schema SchemaFromTypes(const std::vector<std::pair<std::string, std::string>>& columns) {
  table::Schema schema;
  for (const auto& [name, type] : columns) {
    table::Field field;
    field.name = name;
    field.type = Check(table::ParseType(type));
    schema.fields.push_back(std::move(field));
  }
  return schema;
}

namespace {

void BindViews(nb::module_& m) {
  nb::class_<table::View>(m, "View")
      .def_prop_ro("version", [](const table::View& v) { return v.snapshot().version; })
      .def_prop_ro("rows", [](const table::View& v) { return v.snapshot().rows; })
      .def_prop_ro("location", [](const table::View& v) { return v.environment()->store->Describe(); })
      .def_prop_ro("prefix", &table::View::prefix)
      // Writes an object into the table's store if there is none of this key; gives what lies there.
      .def("claim",
           [](const table::View& v, const std::string& key, const std::string& text) {
             const auto& store = v.environment()->store;
             return Check(Interruptible([&](const StopToken&) -> Result<std::string> {
               return table::PutFirst(store.get(), key, text);
             }));
           })
      .def_prop_ro("columns",
                   [](const table::View& v) {
                     std::vector<std::pair<std::string, std::string>> columns;
                     for (const auto& field : v.schema().fields)
                       columns.emplace_back(field.name, field.type.ToString());
                     return columns;
                   })
      .def("arrow_schema", [](const table::View& v) { return ExportSchema(*v.schema().ToArrow()); })
      .def("scan",
           [](const table::View& v, std::vector<std::string> columns, std::string where, int64_t limit,
              int64_t batch_rows, bool row_ids) {
             const auto options =
                 ScanOptionsOf(std::move(columns), std::move(where), limit, batch_rows, row_ids);
             auto reader = Check(Interruptible([&](const StopToken&) { return v.Scan(options); }));
             KeepInChild(reader);
             return Reader{std::move(reader), std::make_shared<table::View>(v)};
           })
      .def(
          "take",
          [](const table::View& v, const std::vector<int64_t>& ids, const std::vector<std::string>& columns) {
            auto rows = Check(Interruptible([&](const StopToken&) { return v.Take(ids, columns); }));
            return RowBatch{std::move(rows), std::make_shared<table::View>(v)};
          })
      // The ids of the rows at these places (0 is the first that was not deleted) of a scan.
      .def("ids_at",
           [](const table::View& v, const std::vector<int64_t>& places) {
             return Check(Interruptible([&](const StopToken&) { return v.IdsAt(places); }));
           })
      .def("count",
           [](const table::View& v, const std::string& where) {
             return Check(Interruptible([&](const StopToken& stop) { return v.Count(where, stop); }));
           })
      .def("files", [](const table::View& v) {
        std::vector<std::tuple<std::string, int64_t, int64_t>> files;
        const auto fragments = Check(v.Fragments());
        for (const auto& fragment : *fragments) {
          for (const auto& file : fragment.files) {
            const std::string key = table::DataKey(v.prefix(), file.id, file.column_group->kind);
            const auto path = v.environment()->store->LocalPath(key);
            files.emplace_back(path ? *path : v.environment()->store->Describe() + key, fragment.first_row_id,
                               fragment.rows);
          }
        }
        return files;
      });
}

// Runs `work` with a Python function over batches, which is called on the worker thread, holding the GIL;
// what it raises is kept and raised here. `schema`: the table's, for blobs that come as bytes.
template <typename Work>
table::CommitResult WithFunction(const nb::callable& fn, const table::Schema& schema, const Work& work) {
  std::exception_ptr raised;
  auto result =
      work([&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
        const nb::gil_scoped_acquire gil;
        try {
          const nb::object out = fn(RowBatch{std::move(in), nullptr});
          HEADRACE_ASSIGN(auto rows,
                          Whole(ingest::WithImageFacts(nb::cast<Reader>(out).batches, schema).get()));
          if (!rows) return Status::Invalid("the function gave no rows");
          return rows;
        } catch (...) {
          raised = std::current_exception();
          return Status::Cancelled("the function raised");
        }
      });
  if (raised) std::rethrow_exception(raised);
  return Check(std::move(result));
}

void BindNewColumns(nb::class_<table::Table>& table) {
  table
      .def(
          "add_columns",
          [](table::Table& t, const Reader& columns, const table::View* rows, const std::string& why) {
            return ToDict(Check(Interruptible([&](const StopToken& stop) -> Result<table::CommitResult> {
              auto view = rows != nullptr ? Result<table::View>(*rows) : t.At();
              HEADRACE_TRY(view.status());
              if (rows == nullptr && !view->snapshot().sort_by.empty())
                return Status::Invalid(
                    "rows of a table with a sort key lie in another order once compaction has sorted them: "
                    "say "
                    "of which snapshot's rows these are the values (at=)");
              const auto with_facts = ingest::WithImageFacts(columns.batches, view->schema());
              return t.AddColumns(*view, with_facts.get(), {}, CommitOf(why, "", -1, stop));
            })));
          },
          nb::arg("columns"), nb::arg("rows").none(), nb::arg("why"))
      .def("add_columns_from",
           [](table::Table& t, const std::vector<std::string>& inputs, const nb::callable& fn,
              const std::string& why) {
             const auto schema = Check(Interruptible([&](const StopToken&) { return t.At(); })).schema();
             return ToDict(WithFunction(fn, schema, [&](const table::Table::BatchFn& call) {
               return Interruptible([&](const StopToken& stop) {
                 return t.AddColumns(inputs, call, CommitOf(why, "", -1, stop));
               });
             }));
           })
      .def(
          "add_column",
          [](table::Table& t, const std::string& name, const std::string& type,
             const std::optional<Reader>& values, const std::string& why) {
            table::Field field = SchemaFromTypes({{name, type}}).fields[0];
            if (values) {
              const auto one = Check(Whole(values->batches.get()));
              Check(table::SetDefault(*Check(table::ConformArray(one->column(0), field)), &field));
            }
            return ToDict(Check(Interruptible([&](const StopToken& stop) {
              return t.AddEmptyColumns({field}, CommitOf(why, "", -1, stop));
            })));
          },
          nb::arg("name"), nb::arg("type"), nb::arg("values").none(), nb::arg("why"))
      .def("add_empty_columns",
           [](table::Table& t, const std::vector<std::pair<std::string, std::string>>& columns,
              const std::string& why) {
             const auto schema = SchemaFromTypes(columns);
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.AddEmptyColumns(schema.fields, CommitOf(why, "", -1, stop));
             })));
           });
}

void BindRowChanges(nb::class_<table::Table>& table) {
  table
      .def("delete",
           [](table::Table& t, const std::string& where, std::optional<std::vector<int64_t>> ids, bool purge,
              const std::string& why, const std::string& writer, int64_t sequence, int64_t since) {
             const table::RowFilter rows{where, std::move(ids)};
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.Delete(rows, CommitOf(why, writer, sequence, stop, since), purge);
             })));
           })
      .def("update",
           [](table::Table& t, const std::string& where, std::optional<std::vector<int64_t>> ids,
              const std::vector<std::string>& inputs, const std::vector<std::string>& columns,
              const nb::callable& fn, const std::string& why, const std::string& writer, int64_t sequence,
              int64_t since) {
             const table::RowFilter rows{where, std::move(ids)};
             const auto schema = Check(Interruptible([&](const StopToken&) { return t.At(); })).schema();
             return ToDict(WithFunction(fn, schema, [&](const table::Table::BatchFn& call) {
               return Interruptible([&](const StopToken& stop) {
                 return t.Update(rows, inputs, columns, call, CommitOf(why, writer, sequence, stop, since));
               });
             }));
           })
      .def("merge",
           [](table::Table& t, const Reader& source, const std::vector<std::string>& on,
              const std::string& matched, bool add, const std::string& why, const std::string& writer,
              int64_t sequence, int64_t since) {
             table::MergeOptions rules;
             rules.on = on;
             rules.matched = matched == "update"   ? table::MergeOptions::Matched::kUpdate
                             : matched == "delete" ? table::MergeOptions::Matched::kDelete
                                                   : table::MergeOptions::Matched::kKeep;
             rules.add = add;
             const auto done = Check(Interruptible([&](const StopToken& stop) -> Result<table::MergeResult> {
               HEADRACE_ASSIGN(const auto view, t.At());
               const auto reader = ingest::WithImageFacts(source.batches, view.schema());
               return t.Merge(reader.get(), rules, CommitOf(why, writer, sequence, stop, since));
             }));
             nb::dict dict = ToDict(done);
             dict["updated"] = done.updated;
             dict["deleted"] = done.deleted;
             dict["added"] = done.added;
             return dict;
           })
      .def("compact",
           [](table::Table& t, const std::string& why) {
             const auto done = Check(Interruptible(
                 [&](const StopToken& stop) { return t.Compact({}, CommitOf(why, "", -1, stop)); }));
             nb::dict dict = ToDict(done);
             dict["commits"] = done.commits;
             dict["replaced"] = done.replaced;
             return dict;
           })
      .def("restore", [](table::Table& t, const std::string& version, const std::string& why) {
        return ToDict(Check(Interruptible(
            [&](const StopToken& stop) { return t.Restore(version, CommitOf(why, "", -1, stop)); })));
      });
}

void BindSmallChanges(nb::class_<table::Table>& table) {
  table
      .def("rename_column",
           [](table::Table& t, const std::string& from, const std::string& to, const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.RenameColumn(from, to, CommitOf(why, "", -1, stop));
             })));
           })
      .def("widen",
           [](table::Table& t, const std::string& name, const std::string& type, const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.WidenColumn(name, type, CommitOf(why, "", -1, stop));
             })));
           })
      .def("drop_column",
           [](table::Table& t, const std::string& name, const std::string& why) {
             return ToDict(Check(Interruptible(
                 [&](const StopToken& stop) { return t.DropColumn(name, CommitOf(why, "", -1, stop)); })));
           })
      .def("tag",
           [](table::Table& t, const std::string& tag, const std::string& version, bool move,
              const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.Tag(tag, version, move, CommitOf(why, "", -1, stop));
             })));
           })
      .def("remove_tag",
           [](table::Table& t, const std::string& tag) {
             return ToDict(Check(Interruptible(
                 [&](const StopToken& stop) { return t.RemoveTag(tag, CommitOf("", "", -1, stop)); })));
           })
      .def("history", [](const table::Table& t, int64_t limit) {
        nb::list list;
        const auto history = Check(Interruptible([&](const StopToken&) { return t.History(limit); }));
        for (const auto& entry : history) {
          nb::dict dict;
          dict["version"] = entry.version;
          dict["time_us"] = entry.time_us;
          dict["kind"] = table::OperationName(entry.operation.kind);
          dict["who"] = entry.operation.who;
          dict["why"] = entry.operation.why;
          dict["how"] = entry.operation.how;
          dict["rows"] = entry.operation.rows;
          dict["rows_after"] = entry.rows;
          dict["bytes"] = entry.operation.bytes;
          dict["columns"] = entry.operation.columns;
          dict["inputs"] = entry.operation.inputs;
          dict["tags"] = entry.tags;
          dict["expired"] = entry.expired;
          list.append(dict);
        }
        return list;
      });
}

}  // namespace

void BindTable(nb::module_& m) {
  BindViews(m);
  nb::class_<table::Table> table(m, "Table");
  table.def_prop_ro("name", &table::Table::name)
      .def_prop_ro("prefix", &table::Table::prefix)
      .def("at",
           [](const table::Table& t, const std::string& version) {
             return Check(Interruptible([&](const StopToken&) { return t.At(version); }));
           })
      .def("append", [](table::Table& t, const Reader& rows, const std::string& why,
                        const std::string& writer, int64_t sequence, int64_t since) {
        return ToDict(Check(Interruptible([&](const StopToken& stop) -> Result<table::CommitResult> {
          HEADRACE_ASSIGN(const auto view, t.At());
          const auto with_facts = ingest::WithImageFacts(rows.batches, view.schema());
          return t.Append(with_facts.get(), CommitOf(why, writer, sequence, stop, since));
        })));
      });
  BindNewColumns(table);
  BindRowChanges(table);
  BindSmallChanges(table);
  BindUpkeep(m, table);
}

}  // namespace headrace::python
