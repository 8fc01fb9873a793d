// Catalogs: their tables, files taken in, SQL.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/json.h"
#include "ingest/ingest.h"
#include "module.h"
#include "query/query.h"
#include "trace/artifacts.h"
#include "trace/queue.h"
#include "trace/scores.h"
#include "trace/tables.h"
#include "trace/tail.h"
#include "trace/views.h"

namespace headrace::python {
namespace {

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
  dict["replaced"] = report.replaced;
  dict["same_bytes"] = copies;
  nb::list notices;
  for (const auto& notice : report.notices) notices.append(text(notice));
  dict["notices"] = notices;
  dict["refused"] = report.refused;
  return dict;
}

// catalog.ingest's keywords.
ingest::IngestOptions IngestOptionsOf(const nb::dict& given) {
  ingest::IngestOptions options;
  options.format = nb::cast<std::string>(given["format"]);
  options.again = nb::cast<bool>(given["again"]);
  options.on_change = nb::cast<std::string>(given["on_change"]);
  options.on_copy = nb::cast<std::string>(given["on_copy"]);
  options.on_error = nb::cast<std::string>(given["on_error"]);
  options.shuffle = nb::cast<bool>(given["shuffle"]);
  options.encoding = nb::cast<std::string>(given["encoding"]);
  const auto delimiter = nb::cast<std::string>(given["delimiter"]);
  if (delimiter.size() > 1) Raise(Status::Invalid("delimiter is one character"));
  if (!delimiter.empty()) options.delimiter = delimiter[0];
  options.names = nb::cast<std::vector<std::string>>(given["names"]);
  if (!given["header"].is_none()) options.header = nb::cast<bool>(given["header"]);
  for (const auto& [column, type] : nb::cast<nb::dict>(given["types"]))
    options.types[nb::cast<std::string>(column)] = nb::cast<std::string>(type);
  return options;
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

query::SqlEngineOptions EngineOptions(const std::shared_ptr<table::Catalog>& catalog) {
  query::SqlEngineOptions options;
  options.tailed = trace::TailedTables();
  options.tail = trace::TailOf(catalog);
  options.views = trace::Views();
  options.view = trace::ViewOf(catalog);
  return options;
}

// The score's id. `row`: a JSON object of columns.
Result<std::string> Score(table::Catalog* catalog, const std::string& target, const std::string& against,
                          const std::string& row) {
  nlohmann::json score = ParseJson(row);
  HEADRACE_ASSIGN(const trace::Target parsed, trace::ParseTarget(target));
  score["target_kind"] = parsed.kind;
  score["target"] = parsed.id;
  if (!against.empty()) {
    HEADRACE_ASSIGN(const trace::Target other, trace::ParseTarget(parsed.kind, against));
    score["against"] = other.id;
  }
  if (!score.contains("who")) score["who"] = table::DefaultWho();
  trace::FinishScore(&score);
  HEADRACE_TRY(trace::CommitScores(catalog, {score}, {.why = "a score", .how = "python"}).status());
  return score["id"].get<std::string>();
}

Result<std::string> CreateQueue(const std::shared_ptr<table::Catalog>& catalog, const std::string& text,
                                const table::CommitOptions& options) {
  HEADRACE_ASSIGN(trace::Queue queue, trace::QueueFromJson(ParseJson(text)));
  HEADRACE_ASSIGN(const auto engine, query::SqlEngine::Open(catalog, EngineOptions(catalog)));
  const auto run = [&](const std::string& sql) -> Result<trace::SqlRows> {
    HEADRACE_ASSIGN(auto rows, engine->Query(sql, {options.stop, {}}));
    return trace::SqlRows{std::move(rows), engine->inputs()};
  };
  HEADRACE_ASSIGN(queue, trace::CreateQueue(catalog.get(), std::move(queue), run, options));
  return trace::ToJson(queue).dump();
}

// A query engine and the token that stops its statement when the reader is dropped or a signal comes.
struct Sql {
  std::shared_ptr<query::SqlEngine> engine;
  std::weak_ptr<arrow::RecordBatchReader>
      rows;  // of its last query: while anybody holds them, the next would end them
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

void BindSql(nb::module_& m) {
  nb::class_<Sql>(m, "Sql")
      .def("query",
           [](Sql& s, const std::string& sql, const nb::dict& params) {
             const auto values = ParamsOf(params);
             auto reader = Check(Interruptible([&](const StopToken& stop) {
               return s.engine->Query(sql, {stop, values});
             }));
             KeepInChild(reader);
             Reader rows{std::move(reader), nullptr};
             s.rows = rows.batches;
             return rows;
           })
      .def_prop_ro("idle", [](const Sql& s) { return s.rows.expired(); })
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
          return query::QueryInto(c.held.get(), s.engine.get(), sql, name, CommitOf(why, "", -1, stop),
                                  values);
        })));
      });
}

void BindScores(nb::class_<CatalogHandle>* catalog) {
  catalog
      ->def("score", [](const CatalogHandle& c, const std::string& target, const std::string& against,
                        const std::string& row) { return Check(Score(c.held.get(), target, against, row)); })
      .def("create_queue",
           [](const CatalogHandle& c, const std::string& queue, const std::string& why) {
             return Check(Interruptible([&](const StopToken& stop) {
               return CreateQueue(c.held, queue, CommitOf(why, "", -1, stop));
             }));
           })
      .def("queues", [](const CatalogHandle& c) {
        std::vector<std::string> texts;
        for (const auto& queue : Check(trace::ListQueues(*c.held)))
          texts.push_back(trace::ToJson(queue).dump());
        return texts;
      });
}

void BindArtifacts(nb::class_<CatalogHandle>* catalog) {
  (*catalog)
      .def("fetch_artifact",
           [](const CatalogHandle& c, const std::string& sha256, const std::string& path) {
             Check(Interruptible([&](const StopToken& stop) {
               return trace::FetchArtifact(*c.held, sha256, path, {}, stop);
             }));
           })
      .def("fetch_checkpoint_file", [](const CatalogHandle& c, const std::string& run,
                                       const std::string& sha256, const std::string& path) {
        Check(Interruptible([&](const StopToken& stop) {
          return trace::FetchCheckpointFile(*c.held, run, sha256, path, stop);
        }));
      });
}

}  // namespace

void BindCatalog(nb::module_& m) {
  nb::class_<CatalogHandle> catalog(m, "Catalog");
  catalog
      .def_static("init",
                  [](const std::string& location, bool sync) {
                    return Kept(Check(Interruptible([&](const StopToken&) {
                      return table::Catalog::Init(location, {.sync = sync, .upkeep = true});
                    })));
                  })
      .def_static("open",
                  [](const std::string& location, bool upkeep) {
                    return Kept(Check(Interruptible([&](const StopToken&) {
                      return table::Catalog::Open(location, {.upkeep = upkeep});
                    })));
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
               return c.held->CreateTable(name, schema, CommitOf(why, "", -1, stop));
             }));
           })
      .def("drop_table",
           [](const CatalogHandle& c, const std::string& name) {
             Check(Interruptible(
                 [&](const StopToken& stop) { return c.held->DropTable(name, CommitOf("", "", -1, stop)); }));
           })
      .def(
          "gc",
          [](const CatalogHandle& c, std::optional<int64_t> keep_us, int64_t grace_us, bool dry_run) {
            return CollectAll(*c.held, keep_us, grace_us, dry_run);
          },
          nb::arg("keep").none(), nb::arg("grace"), nb::arg("dry_run"))
      .def("verify", [](const CatalogHandle& c, bool newest) { return VerifyAll(*c.held, newest); })
      .def("ingest",
           [](const CatalogHandle& c, const std::vector<std::string>& sources, const std::string& name,
              const nb::dict& given, const std::string& why) {
             ingest::IngestOptions options = IngestOptionsOf(given);
             options.table = name;
             return ReportToDict(Check(Interruptible([&](const StopToken& stop) {
               options.stop = stop;
               options.commit = CommitOf(why, "", -1, stop);
               return ingest::Ingest(c.held.get(), sources, options);
             })));
           })
      .def("record_traces",
           [](const CatalogHandle& c, const std::string& rows) {
             Check(Interruptible([&](const StopToken&) { return trace::CommitTraces(c.held.get(), rows); }));
           })
      .def("engine", [](const CatalogHandle& c, const std::string& memory, int threads, bool files) {
        auto options = EngineOptions(c.held);
        options.threads = threads;
        options.memory_limit = memory;
        options.files = files;
        std::shared_ptr<query::SqlEngine> engine = Check(query::SqlEngine::Open(c.held, options));
        KeepInChild(engine);  // it has threads
        return Sql{std::move(engine), {}};
      });
  BindArtifacts(&catalog);
  BindScores(&catalog);
  BindSql(m);
}

}  // namespace headrace::python
