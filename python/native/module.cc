// The native half of the Python package. What users see is in headrace/*.py.
#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/util/key_value_metadata.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bridge.h"
#include "cells.h"
#include "ingest/ingest.h"
#include "media/media.h"
#include "objects.h"
#include "query/query.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/table.h"
#include "trace/committer.h"

namespace headrace::python {
namespace {

using table::CommitOptions;
using table::CommitResult;

struct Reader {
  std::shared_ptr<arrow::RecordBatchReader> batches;
  std::shared_ptr<table::View> view;
};

// Gives blob columns that come as bytes their media facts on the way.
class BlobReader final : public arrow::RecordBatchReader {
 public:
  BlobReader(std::shared_ptr<arrow::RecordBatchReader> inner, table::Schema schema)
      : inner_(std::move(inner)), fields_(std::move(schema)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return inner_->schema(); }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* out) override {
    std::shared_ptr<arrow::RecordBatch> batch;
    ARROW_RETURN_NOT_OK(inner_->ReadNext(&batch));
    *out = batch;
    if (!batch) return arrow::Status::OK();
    for (int i = 0; i < batch->num_columns(); ++i) {
      const table::Field* field = fields_.Find(batch->column_name(i));
      if (field == nullptr || field->type.kind != table::Kind::kBlob) continue;
      const auto blobs = ingest::BlobsFromBytes(*field, batch->column(i));
      if (!blobs.ok()) return table::ToArrow(blobs.status());
      ARROW_ASSIGN_OR_RAISE(batch, batch->SetColumn(i, arrow::field(field->name, (*blobs)->type()), *blobs));
    }
    *out = batch;
    return arrow::Status::OK();
  }

 private:
  std::shared_ptr<arrow::RecordBatchReader> inner_;
  table::Schema fields_;
};

CommitOptions Options(const std::string& why, const std::string& writer, int64_t sequence,
                      const StopToken& stop) {
  CommitOptions options;
  options.why = why;
  options.how = "python";
  options.writer = writer;
  options.sequence = sequence;
  options.stop = stop;
  return options;
}

nb::dict ToDict(const CommitResult& result) {
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

// Columns by name: numpy arrays of numbers, columns made of objects, or anything that speaks Arrow.
Reader FromColumns(const std::vector<std::string>& names, const nb::list& columns) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (size_t i = 0; i < names.size(); ++i) {
    Column column;
    if (nb::isinstance<Column>(columns[i])) {
      column = nb::cast<Column>(columns[i]);
    } else if (nb::hasattr(columns[i], "__arrow_c_stream__") ||
               nb::hasattr(columns[i], "__arrow_c_array__")) {
      column = ImportColumn(columns[i]);
    } else {
      column.values = ArrayFromPython(columns[i]);
      const auto nd = nb::cast<nb::ndarray<nb::ro>>(columns[i]);
      if (nd.ndim() > 2) {
        std::string shape;
        for (size_t d = 1; d < nd.ndim(); ++d) shape += (d > 1 ? ", " : "") + std::to_string(nd.shape(d));
        column.metadata = arrow::key_value_metadata({"headrace.shape"}, {shape});
      }
    }
    if (!arrays.empty() && column.values->length() != arrays[0]->length()) {
      Raise(Status::Invalid("column '" + names[i] + "' has " + std::to_string(column.values->length()) +
                            " rows and '" + names[0] + "' has " + std::to_string(arrays[0]->length())));
    }
    fields.push_back(arrow::field(names[i], column.values->type(), true, column.metadata));
    arrays.push_back(std::move(column.values));
  }
  const int64_t rows = arrays.empty() ? 0 : arrays[0]->length();
  auto made = arrow::RecordBatchReader::Make({arrow::RecordBatch::Make(arrow::schema(fields), rows, arrays)});
  if (!made.ok()) Raise(table::FromArrow(made.status()));
  return {*made, nullptr};
}

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

nb::dict ReportToDict(const ingest::IngestReport& report) {
  nb::dict dict;
  dict["table"] = report.table;
  dict["version"] = report.version;
  dict["files"] = report.files;
  dict["skipped"] = report.skipped;
  dict["rows"] = report.rows;
  dict["bytes"] = report.bytes;
  dict["seconds"] = report.seconds;
  nb::list errors;
  for (const auto& error : report.errors) {
    nb::dict entry;
    entry["path"] = nb::bytes(error.path.data(), error.path.size()).attr("decode")("utf-8", "replace");
    entry["code"] = std::string(CodeName(error.error.code()));
    entry["error"] = error.error.ToString();
    errors.append(entry);
  }
  dict["errors"] = errors;
  const auto text = [](const std::string& bytes) {
    return nb::bytes(bytes.data(), bytes.size()).attr("decode")("utf-8", "replace");
  };
  nb::list changed, copies;
  for (const auto& path : report.changed) changed.append(text(path));
  for (const auto& copy : report.same_bytes) {
    nb::dict entry;
    entry["path"] = text(copy.path);
    entry["as"] = text(copy.as);
    copies.append(entry);
  }
  dict["changed"] = changed;
  dict["same_bytes"] = copies;
  return dict;
}

// All rows of a reader as one batch; null if it has none.
Result<std::shared_ptr<arrow::RecordBatch>> Whole(const Reader& rows) {
  const auto table = rows.batches->ToTable();
  if (!table.ok()) return table::FromArrow(table.status());
  if ((*table)->num_rows() == 0) return std::shared_ptr<arrow::RecordBatch>();
  auto joined = (*table)->CombineChunksToBatch();
  if (!joined.ok()) return table::FromArrow(joined.status());
  return *joined;
}

void BindTable(nb::module_& m) {
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
               const Status put = store->PutIfAbsent(key, text);
               if (put.ok()) return text;
               if (!put.Is(Code::kAlreadyExists) && !put.Is(Code::kUnknown)) return put;
               HEADRACE_ASSIGN(const auto there, store->Get(key));
               return std::string(there.view());
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
            return Batch{std::move(rows), std::make_shared<table::View>(v)};
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
            const std::string key = v.prefix() + table::DataKey(file.id, file.family->kind);
            const auto path = v.environment()->store->LocalPath(key);
            files.emplace_back(path ? *path : v.environment()->store->Describe() + key, fragment.first_row_id,
                               fragment.rows);
          }
        }
        return files;
      });

  nb::class_<table::Table>(m, "Table")
      .def_prop_ro("name", &table::Table::name)
      .def_prop_ro("prefix", &table::Table::prefix)
      .def("at",
           [](const table::Table& t, const std::string& version) {
             return Check(Interruptible([&](const StopToken&) { return t.At(version); }));
           })
      .def("append",
           [](table::Table& t, const Reader& rows, const std::string& why, const std::string& writer,
              int64_t sequence) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) -> Result<CommitResult> {
               HEADRACE_ASSIGN(const auto view, t.At());
               BlobReader reader(rows.batches, view.schema());
               return t.Append(&reader, Options(why, writer, sequence, stop));
             })));
           })
      .def("add_columns",
           [](table::Table& t, const Reader& columns, const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.AddColumns(columns.batches.get(), Options(why, "", -1, stop));
             })));
           })
      .def(
          "add_columns_from",
          [](table::Table& t, const std::vector<std::string>& inputs, const nb::callable& fn,
             const std::string& why) {
            // The function runs on the worker thread, holding the GIL; what it raises is kept and raised
            // here.
            std::exception_ptr raised;
            const auto call =
                [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
              const nb::gil_scoped_acquire gil;
              try {
                const nb::object out = fn(Batch{std::move(in), nullptr});
                return Whole(nb::cast<Reader>(out));
              } catch (...) {
                raised = std::current_exception();
                return Status::Cancelled("the function raised");
              }
            };
            auto result = Interruptible([&](const StopToken& stop) {
              return t.AddColumns(
                  inputs,
                  [&](std::shared_ptr<arrow::RecordBatch> in) -> Result<std::shared_ptr<arrow::RecordBatch>> {
                    HEADRACE_ASSIGN(auto out, call(std::move(in)));
                    if (!out) return Status::Invalid("the function gave no rows");
                    return out;
                  },
                  Options(why, "", -1, stop));
            });
            if (raised) std::rethrow_exception(raised);
            return ToDict(Check(std::move(result)));
          })
      .def("add_empty_columns",
           [](table::Table& t, const std::vector<std::pair<std::string, std::string>>& columns,
              const std::string& why) {
             const auto schema = SchemaFromTypes(columns);
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.AddEmptyColumns(schema.fields, Options(why, "", -1, stop));
             })));
           })
      .def("rename_column",
           [](table::Table& t, const std::string& from, const std::string& to, const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.RenameColumn(from, to, Options(why, "", -1, stop));
             })));
           })
      .def("drop_column",
           [](table::Table& t, const std::string& name, const std::string& why) {
             return ToDict(Check(Interruptible(
                 [&](const StopToken& stop) { return t.DropColumn(name, Options(why, "", -1, stop)); })));
           })
      .def("tag",
           [](table::Table& t, const std::string& tag, const std::string& version, bool move,
              const std::string& why) {
             return ToDict(Check(Interruptible([&](const StopToken& stop) {
               return t.Tag(tag, version, move, Options(why, "", -1, stop));
             })));
           })
      .def("remove_tag",
           [](table::Table& t, const std::string& tag) {
             return ToDict(Check(Interruptible(
                 [&](const StopToken& stop) { return t.RemoveTag(tag, Options("", "", -1, stop)); })));
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
          list.append(dict);
        }
        return list;
      });
}

void BindRows(nb::module_& m) {
  // The bytes of a blob cell by its facts, as `Cell` gives them.
  m.def("read_blob", [](const table::View& view, const nb::dict& facts) -> nb::object {
    nb::list one;
    one.append(facts);
    table::Field field;
    field.name = "blob";
    field.type.kind = table::Kind::kBlob;
    field.type.children = table::BlobFields();
    const auto cell = Check(table::ConformArray(ColumnOf("blob", one, "").values, field));
    const auto blobs = Check(Interruptible([&](const StopToken&) { return view.ReadBlobs(cell); }));
    if (!blobs[0]) return nb::none();
    return nb::bytes(blobs[0]->data(), static_cast<size_t>(blobs[0]->size()));
  });
  nb::class_<Batch>(m, "Batch")
      .def_prop_ro("num_rows", [](const Batch& b) { return b.rows->num_rows(); })
      .def_prop_ro("names", [](const Batch& b) { return b.rows->schema()->field_names(); })
      .def("cell",
           [](const Batch& b, const std::string& name, int64_t row) {
             const int column = b.rows->schema()->GetFieldIndex(name);
             if (column < 0) throw nb::key_error(name.c_str());
             if (row < 0 || row >= b.rows->num_rows()) throw nb::index_error();
             return Cell(b, column, row);
           })
      .def("to_numpy",
           [](const Batch& b, const std::string& name) {
             const int column = b.rows->schema()->GetFieldIndex(name);
             if (column < 0) throw nb::key_error(name.c_str());
             return ColumnToNumpy(b, column);
           })
      .def("arrow_array", [](const Batch& b) { return ExportBatch(*b.rows); })
      .def("arrow_stream",
           [](const Batch& b) {
             auto reader = arrow::RecordBatchReader::Make({b.rows}, b.rows->schema());
             if (!reader.ok()) Raise(table::FromArrow(reader.status()));
             return ExportStream(*reader);
           })
      .def("address", [](const Batch& b) -> nb::object { return b.view ? AddressOf(*b.view) : nb::none(); })
      .def("through",
           [](const Batch& b, const table::View& v) {
             return Batch{b.rows, std::make_shared<table::View>(v)};
           })
      .def("blobs", [](const Batch& b, const std::string& name) {
        const auto cells = b.rows->GetColumnByName(name);
        if (!cells) throw nb::key_error(name.c_str());
        if (!b.view)
          Raise(Status::Invalid(
              "these rows came from SQL and cannot fetch blobs; take them by _row_id from the table"));
        const auto blobs = Check(Interruptible([&](const StopToken&) { return b.view->ReadBlobs(cells); }));
        nb::list list;
        for (const auto& blob : blobs) {
          list.append(blob ? nb::object(nb::bytes(blob->data(), static_cast<size_t>(blob->size())))
                           : nb::object(nb::none()));
        }
        return list;
      });
  nb::class_<Reader>(m, "Reader")
      .def_prop_ro("names", [](const Reader& r) { return r.batches->schema()->field_names(); })
      .def("next",
           [](const Reader& r) -> std::optional<Batch> {
             auto next =
                 Check(Interruptible([&](const StopToken&) -> Result<std::shared_ptr<arrow::RecordBatch>> {
                   std::shared_ptr<arrow::RecordBatch> batch;
                   const auto status = r.batches->ReadNext(&batch);
                   if (!status.ok()) return table::FromArrow(status);
                   return batch;
                 }));
             if (!next) return std::nullopt;
             return Batch{std::move(next), r.view};
           })
      .def("arrow_stream", [](const Reader& r) { return ExportStream(r.batches); })
      .def("arrow_schema", [](const Reader& r) { return ExportSchema(*r.batches->schema()); });
}

// Holds the catalog as plain C++: a shared_ptr that came through Python would want the GIL wherever its last
// copy dies.
struct CatalogHandle {
  std::shared_ptr<table::Catalog> held;
};

CatalogHandle Kept(std::shared_ptr<table::Catalog> catalog) {
  KeepInChild(catalog->environment());
  return {std::move(catalog)};
}

// A query engine and the token that stops its statement when the reader is dropped or a signal comes.
struct Sql {
  std::shared_ptr<query::Engine> engine;
};

// {name: None, bool, int, float or str}, as catalog.py makes it.
std::vector<query::Param> ParamsOf(const nb::dict& given) {
  std::vector<query::Param> params;
  for (const auto& [name, value] : given) {
    query::Param param{nb::cast<std::string>(name), {}};
    if (nb::isinstance<nb::bool_>(value)) {
      param.value = nb::cast<bool>(value);
    } else if (nb::isinstance<nb::int_>(value)) {
      param.value = nb::cast<int64_t>(value);
    } else if (nb::isinstance<nb::float_>(value)) {
      param.value = nb::cast<double>(value);
    } else if (nb::isinstance<nb::str>(value)) {
      param.value = nb::cast<std::string>(value);
    }
    params.push_back(std::move(param));
  }
  return params;
}

void BindCatalog(nb::module_& m) {
  nb::class_<CatalogHandle>(m, "Catalog")
      .def_static("init",
                  [](const std::string& location, bool sync) {
                    return Kept(Check(Interruptible(
                        [&](const StopToken&) { return table::Catalog::Init(location, {.sync = sync}); })));
                  })
      .def_static("open",
                  [](const std::string& location) {
                    return Kept(Check(
                        Interruptible([&](const StopToken&) { return table::Catalog::Open(location); })));
                  })
      .def_prop_ro("location", [](const CatalogHandle& c) { return c.held->Describe(); })
      .def("table_names",
           [](const CatalogHandle& c) {
             return Check(Interruptible([&](const StopToken&) { return c.held->TableNames(); }));
           })
      .def("table",
           [](const CatalogHandle& c, const std::string& name) {
             return *Check(Interruptible([&](const StopToken&) { return c.held->OpenTable(name); }));
           })
      .def("create_table",
           [](const CatalogHandle& c, const std::string& name,
              const std::vector<std::pair<std::string, std::string>>& columns, const std::string& why) {
             auto schema = SchemaFromTypes(columns);
             return *Check(Interruptible([&](const StopToken& stop) {
               return c.held->CreateTable(name, schema, Options(why, "", -1, stop));
             }));
           })
      .def("drop_table",
           [](const CatalogHandle& c, const std::string& name) {
             Check(Interruptible(
                 [&](const StopToken& stop) { return c.held->DropTable(name, Options("", "", -1, stop)); }));
           })
      .def("ingest",
           [](const CatalogHandle& c, const std::vector<std::string>& sources, const std::string& name,
              const std::string& format, bool again, const std::string& on_change, bool shuffle,
              const std::string& why) {
             ingest::IngestOptions options;
             options.table = name;
             options.format = format;
             options.again = again;
             options.on_change = on_change;
             options.shuffle = shuffle;
             return ReportToDict(Check(Interruptible([&](const StopToken& stop) {
               options.stop = stop;
               options.commit = Options(why, "", -1, stop);
               return ingest::Ingest(c.held.get(), sources, options);
             })));
           })
      .def("record_traces",
           [](const CatalogHandle& c, const std::string& rows) {
             Check(Interruptible([&](const StopToken&) { return trace::CommitTraces(c.held.get(), rows); }));
           })
      .def("engine", [](const CatalogHandle& c, const std::string& memory, int threads) {
        return Sql{Check(query::Engine::Open(c.held, {.threads = threads,
                                                      .memory_limit = memory,
                                                      .tailed = trace::TailedTables(),
                                                      .tail = trace::TailOf(c.held)}))};
      });
  nb::class_<Sql>(m, "Sql")
      .def("query",
           [](const Sql& s, const std::string& sql, const nb::dict& params) {
             const auto values = ParamsOf(params);
             auto reader = Check(Interruptible([&](const StopToken& stop) {
               return s.engine->Query(sql, {stop, values});
             }));
             KeepInChild(reader);
             return Reader{std::move(reader), nullptr};
           })
      .def("explain",
           [](const Sql& s, const std::string& sql) {
             return Check(
                 Interruptible([&](const StopToken& stop) { return s.engine->Explain(sql, {stop}); }));
           })
      .def("inputs", [](const Sql& s) { return s.engine->inputs(); })
      .def("into", [](const Sql& s, const CatalogHandle& c, const std::string& sql, const std::string& name,
                      const std::string& why, const nb::dict& params) {
        const auto values = ParamsOf(params);
        return ToDict(Check(Interruptible([&](const StopToken& stop) {
          return query::QueryInto(c.held.get(), s.engine.get(), sql, name, Options(why, "", -1, stop),
                                  values);
        })));
      });
}

}  // namespace

NB_MODULE(_native, m) {
  // What daemon threads and other modules still hold when the interpreter ends is no leak of a program's.
  nb::set_leak_warnings(false);
  BindTable(m);
  BindRows(m);
  BindCatalog(m);
  BindStream(m);
  m.def("import_stream", [](nb::handle object) { return Reader{ImportStream(object), nullptr}; });
  // For objects with threads of their own, in a forked child: never taken down.
  m.def("abandon", [](nb::handle object) { object.inc_ref(); });
  m.def("from_columns", &FromColumns);
  nb::class_<Column>(m, "Column").def("__len__", [](const Column& c) { return c.values->length(); });
  m.def("column_of", &ColumnOf, nb::arg("name"), nb::arg("values"), nb::arg("type") = "");
  // Of the columns that are not in `known`.
  m.def("types_of", [](const Reader& reader, const std::vector<std::string>& known) {
    arrow::FieldVector fields;
    for (const auto& field : reader.batches->schema()->fields()) {
      if (std::find(known.begin(), known.end(), field->name()) == known.end()) fields.push_back(field);
    }
    const auto schema = Check(table::SchemaFromArrow(arrow::Schema(fields)));
    std::vector<std::pair<std::string, std::string>> columns;
    for (size_t i = 0; i < fields.size(); ++i) {
      const bool media = fields[i]->metadata() && fields[i]->metadata()->Contains("headrace.media");
      columns.emplace_back(fields[i]->name(), media ? "blob" : schema.fields[i].type.ToString());
    }
    return columns;
  });
  m.def("types_of_schema", [](nb::handle object) {
    const auto schema = Check(table::SchemaFromArrow(*ImportSchema(object)));
    std::vector<std::pair<std::string, std::string>> columns;
    for (const auto& field : schema.fields) columns.emplace_back(field.name, field.type.ToString());
    return columns;
  });
  m.def("decode_image", [](const nb::bytes& bytes, bool upright) {
    auto image = Check(Interruptible([&](const StopToken&) {
      return media::DecodeImage({bytes.c_str(), bytes.size()}, upright);
    }));
    auto* pixels = new std::vector<uint8_t>(std::move(image.pixels));
    const nb::capsule owner(pixels, [](void* p) noexcept { delete static_cast<std::vector<uint8_t>*>(p); });
    const size_t shape[3] = {static_cast<size_t>(image.height), static_cast<size_t>(image.width), 3};
    return nb::ndarray<nb::numpy, uint8_t, nb::ndim<3>>(pixels->data(), 3, shape, owner);
  });
}

}  // namespace headrace::python
