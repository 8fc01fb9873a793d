#include "cli/render.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>
#include <arrow/util/key_value_metadata.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/clock.h"
#include "base/ids.h"
#include "base/json.h"
#include "cli/terminal.h"
#include "table/arrow_bridge.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

std::string ExtensionOf(const arrow::Field& field) {
  return field.metadata() ? field.metadata()->Get("ARROW:extension:name").ValueOr("") : "";
}

std::string Dumped(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

bool IsBlob(const arrow::StructArray& array) {
  return array.struct_type()->GetFieldIndex("media_type") >= 0 &&
         array.struct_type()->GetFieldIndex("inline") >= 0 && array.struct_type()->GetFieldIndex("pack") >= 0;
}

ordered_json Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

std::string BlobText(const arrow::StructArray& array, int64_t row) {
  const auto text = [&](const char* name) {
    const int at = array.struct_type()->GetFieldIndex(name);
    if (at < 0 || array.field(at)->IsNull(row)) return std::string();
    return CellToText(*array.struct_type()->field(at), *array.field(at), row);
  };
  const auto length = array.GetFieldByName("length");
  std::string out = text("media_type");
  if (out.empty()) out = "bytes";
  if (!text("width").empty()) out += " " + text("width") + "×" + text("height");
  if (length && length->IsValid(row)) {
    out += " " + HumanBytes(static_cast<double>(static_cast<const arrow::Int64Array&>(*length).Value(row)));
  }
  return out;
}

struct Column {
  std::string name;
  bool right = false;  // numbers
  int width = 0;
};

std::string Pad(const std::string& text, int width, bool right) {
  const std::string space(static_cast<size_t>(std::max(0, width - DisplayWidth(text))), ' ');
  return right ? space + text : text + space;
}

bool IsNumber(const arrow::DataType& type) {
  return arrow::is_integer(type.id()) || arrow::is_floating(type.id()) || arrow::is_decimal(type.id());
}

void PrintTable(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows,
                const RenderOptions& options) {
  // Columns that do not fit are omitted; their names are listed.
  size_t shown = 0;
  int total = 0;
  for (; shown < columns.size(); ++shown) {
    total += columns[shown].width + 2;
    if (options.width > 0 && total > options.width && shown > 0) break;
  }
  const char* bold = options.colour ? "\033[1m" : "";
  const char* dim = options.colour ? "\033[2m" : "";
  const char* plain = options.colour ? "\033[0m" : "";
  std::string line;
  for (size_t c = 0; c < shown; ++c)
    line += (c ? "  " : "") + Pad(columns[c].name, columns[c].width, columns[c].right);
  std::printf("%s%s%s\n", bold, line.c_str(), plain);
  line.clear();
  for (size_t c = 0; c < shown; ++c) {
    if (c) line += "  ";
    for (int i = 0; i < columns[c].width; ++i) line += "─";
  }
  std::printf("%s%s%s\n", dim, line.c_str(), plain);
  for (const auto& row : rows) {
    line.clear();
    for (size_t c = 0; c < shown; ++c)
      line += (c ? "  " : "") + Pad(row[c], columns[c].width, columns[c].right);
    while (!line.empty() && line.back() == ' ') line.pop_back();
    std::printf("%s\n", line.c_str());
  }
  if (shown < columns.size()) {
    std::string names;
    for (size_t c = shown; c < columns.size(); ++c) names += (names.empty() ? "" : ", ") + columns[c].name;
    std::printf("%s… and %zu more columns that do not fit: %s%s\n", dim, columns.size() - shown,
                names.c_str(), plain);
  }
}

}  // namespace

std::string Printable(std::string_view text, size_t limit) {
  std::string out;
  size_t shown = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80 && ++shown > limit) return out + "…";
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c1) {  // U+0080 to U+009F: some terminals take them for commands
      out += "·";
      ++i;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += byte == '\n' ? "⏎" : "·";
    } else {
      out += text[i];
    }
  }
  return out;
}

void PrintJson(const ordered_json& json) { std::printf("%s\n", Dumped(json).c_str()); }

int DisplayWidth(const std::string& text) {
  int width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) == 0x80) continue;
    // Most characters beyond the basic plane (emoji) and East Asian ones take two cells.
    width += byte >= 0xf0 || (byte >= 0xe3 && byte <= 0xed) ? 2 : 1;
  }
  return width;
}

std::string ShortTime(int64_t micros) {
  std::string text = FormatMicros(micros).substr(0, 19);
  text[10] = ' ';
  return text;
}

// Rows of text as an aligned table.
void PrintAligned(const std::vector<std::vector<std::string>>& rows, size_t right_from, size_t right_to) {
  std::vector<int> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  const bool colour = StdoutIsTerminal();
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const std::string space(static_cast<size_t>(widths[i] - DisplayWidth(rows[r][i])), ' ');
      const bool right = i >= right_from && i < right_to;
      line += (i ? "  " : "") + (right ? space + rows[r][i] : rows[r][i] + space);
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    std::printf(r == 0 && colour ? "\033[1m%s\033[0m\n" : "%s\n", line.c_str());
  }
}

std::string HumanBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 5) {
    bytes /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text;
}

std::string HumanCount(int64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<int>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string HumanSeconds(double s) {
  char text[32];
  if (s < 60) {
    std::snprintf(text, sizeof text, s < 1 ? "%.2f s" : "%.1f s", s);
  } else if (s < 3600) {
    std::snprintf(text, sizeof text, "%d min %d s", static_cast<int>(s) / 60, static_cast<int>(s) % 60);
  } else {
    std::snprintf(text, sizeof text, "%d h %d min", static_cast<int>(s) / 3600,
                  static_cast<int>(s) / 60 % 60);
  }
  return text;
}

// "1 year 2 months 3 days 04:05:06.5", as DuckDB writes intervals.
static std::string IntervalText(const arrow::MonthDayNanoIntervalType::MonthDayNanos& value) {
  std::string text;
  const auto add = [&](int64_t count, const char* unit) {
    if (count == 0) return;
    text += (text.empty() ? "" : " ") + std::to_string(count) + " " + unit +
            (count == 1 || count == -1 ? "" : "s");
  };
  add(value.months / 12, "year");
  add(value.months % 12, "month");
  add(value.days, "day");
  if (value.nanoseconds == 0 && !text.empty()) return text;
  const uint64_t nanos = value.nanoseconds < 0 ? 0 - static_cast<uint64_t>(value.nanoseconds)
                                               : static_cast<uint64_t>(value.nanoseconds);
  const uint64_t seconds = nanos / 1'000'000'000;
  char clock[64];
  std::snprintf(clock, sizeof clock, "%s%02llu:%02llu:%02llu", value.nanoseconds < 0 ? "-" : "",
                static_cast<unsigned long long>(seconds / 3600),
                static_cast<unsigned long long>(seconds / 60 % 60),
                static_cast<unsigned long long>(seconds % 60));
  text += (text.empty() ? "" : " ") + std::string(clock);
  if (nanos % 1'000'000'000 == 0) return text;
  std::snprintf(clock, sizeof clock, ".%09llu", static_cast<unsigned long long>(nanos % 1'000'000'000));
  std::string fraction = clock;
  while (fraction.back() == '0') fraction.pop_back();
  return text + fraction;
}

static std::string DurationText(const arrow::DurationArray& array, int64_t row) {
  constexpr int64_t kNs[] = {1'000'000'000, 1'000'000, 1'000, 1};
  const auto unit = static_cast<const arrow::DurationType&>(*array.type()).unit();
  int64_t nanos = 0;
  if (__builtin_mul_overflow(array.Value(row), kNs[static_cast<int>(unit)], &nanos))
    return std::to_string(array.Value(row)) + (unit == arrow::TimeUnit::SECOND ? " s" : " ms or µs");
  return IntervalText({0, 0, nanos});
}

// An object where the keys are texts that differ, else a list of [key, value].
static ordered_json MapToJson(const arrow::MapArray& map, int64_t row) {
  const auto keys = map.keys()->Slice(map.value_offset(row), map.value_length(row));
  const auto values = map.items()->Slice(map.value_offset(row), map.value_length(row));
  ordered_json object = ordered_json::object(), pairs = ordered_json::array();
  for (int64_t i = 0; i < keys->length(); ++i) {
    ordered_json key = CellToJson(*map.map_type()->key_field(), *keys, i);
    ordered_json value = CellToJson(*map.map_type()->item_field(), *values, i);
    if (key.is_string()) object[key.get<std::string>()] = value;
    pairs.push_back({std::move(key), std::move(value)});
  }
  return object.size() == pairs.size() ? object : pairs;
}

namespace {

// The shortest digits that read back as this float.
ordered_json FloatToJson(float value) {
  if (!std::isfinite(value)) return Number(value);
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  for (int digits = 6; digits < 9; ++digits) {
    char shorter[32];
    std::snprintf(shorter, sizeof shorter, "%.*g", digits, static_cast<double>(value));
    if (std::strtof(shorter, nullptr) == value) {
      std::snprintf(text, sizeof text, "%s", shorter);
      break;
    }
  }
  return std::strtod(text, nullptr);
}

ordered_json StructToJson(const arrow::StructArray& parent, int64_t row) {
  const bool blob = IsBlob(parent);
  ordered_json object = ordered_json::object();
  for (int i = 0; i < parent.num_fields(); ++i) {
    const std::string& name = parent.struct_type()->field(i)->name();
    ordered_json value = CellToJson(*parent.struct_type()->field(i), *parent.field(i), row);
    if (blob && (name == "inline" || value.is_null())) continue;
    object[name] = std::move(value);
  }
  return object;
}

}  // namespace

ordered_json CellToJson(const arrow::Field& field, const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return nullptr;
  using A = arrow::Type;
  switch (array.type_id()) {
    case A::BOOL:
      return static_cast<const arrow::BooleanArray&>(array).Value(row);
    case A::INT8:
      return static_cast<const arrow::Int8Array&>(array).Value(row);
    case A::INT16:
      return static_cast<const arrow::Int16Array&>(array).Value(row);
    case A::INT32:
      return static_cast<const arrow::Int32Array&>(array).Value(row);
    case A::INT64:
      return static_cast<const arrow::Int64Array&>(array).Value(row);
    case A::UINT8:
      return static_cast<const arrow::UInt8Array&>(array).Value(row);
    case A::UINT16:
      return static_cast<const arrow::UInt16Array&>(array).Value(row);
    case A::UINT32:
      return static_cast<const arrow::UInt32Array&>(array).Value(row);
    case A::UINT64:
      return static_cast<const arrow::UInt64Array&>(array).Value(row);
    case A::HALF_FLOAT:
      return Number(
          arrow::util::Float16::FromBits(static_cast<const arrow::HalfFloatArray&>(array).Value(row))
              .ToDouble());
    case A::FLOAT:
      return FloatToJson(static_cast<const arrow::FloatArray&>(array).Value(row));
    case A::DOUBLE:
      return Number(static_cast<const arrow::DoubleArray&>(array).Value(row));
    case A::STRING: {
      std::string text = static_cast<const arrow::StringArray&>(array).GetString(row);
      if (ExtensionOf(field) != "arrow.json") return text;
      auto parsed = ParseJsonInOrder(text);
      return parsed.is_discarded() ? ordered_json(text) : parsed;
    }
    case A::FIXED_SIZE_BINARY: {
      const auto& values = static_cast<const arrow::FixedSizeBinaryArray&>(array);
      if (ExtensionOf(field) != "arrow.uuid") return ordered_json{{"bytes", values.byte_width()}};
      Uuid id;
      std::memcpy(id.bytes.data(), values.GetValue(row), id.bytes.size());
      return id.Hyphenated();
    }
    case A::MAP:
      return MapToJson(static_cast<const arrow::MapArray&>(array), row);
    case A::DURATION:
      return DurationText(static_cast<const arrow::DurationArray&>(array), row);
    case A::BINARY:
      return ordered_json{{"bytes", static_cast<const arrow::BinaryArray&>(array).value_length(row)}};
    case A::STRUCT:
      return StructToJson(static_cast<const arrow::StructArray&>(array), row);
    case A::LIST:
    case A::FIXED_SIZE_LIST: {
      ordered_json list = ordered_json::array();
      const auto slice = array.type_id() == A::LIST
                             ? static_cast<const arrow::ListArray&>(array).value_slice(row)
                             : static_cast<const arrow::FixedSizeListArray&>(array).value_slice(row);
      const auto& item = *array.type()->field(0);
      for (int64_t i = 0; i < slice->length(); ++i) list.push_back(CellToJson(item, *slice, i));
      return list;
    }
    case A::INTERVAL_MONTH_DAY_NANO:
      return IntervalText(static_cast<const arrow::MonthDayNanoIntervalArray&>(array).Value(row));
    default: {
      const auto scalar = array.GetScalar(row);
      return scalar.ok() ? ordered_json((*scalar)->ToString()) : ordered_json(nullptr);
    }
  }
}

std::string CellToText(const arrow::Field& field, const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return "·";
  switch (array.type_id()) {
    case arrow::Type::STRING:
      return Printable(static_cast<const arrow::StringArray&>(array).GetView(row), 48);
    case arrow::Type::DOUBLE:
    case arrow::Type::FLOAT: {
      char text[40];
      const double value = array.type_id() == arrow::Type::FLOAT
                               ? static_cast<const arrow::FloatArray&>(array).Value(row)
                               : static_cast<const arrow::DoubleArray&>(array).Value(row);
      std::snprintf(text, sizeof text, "%.6g", value);
      return text;
    }
    case arrow::Type::STRUCT: {
      const auto& parent = static_cast<const arrow::StructArray&>(array);
      if (IsBlob(parent)) return BlobText(parent, row);
      return Printable(Dumped(CellToJson(field, array, row)), 48);
    }
    case arrow::Type::LIST:
    case arrow::Type::FIXED_SIZE_LIST: {
      const auto slice = array.type_id() == arrow::Type::LIST
                             ? static_cast<const arrow::ListArray&>(array).value_slice(row)
                             : static_cast<const arrow::FixedSizeListArray&>(array).value_slice(row);
      std::string out = "[";
      for (int64_t i = 0; i < std::min<int64_t>(3, slice->length()); ++i)
        out += (i ? ", " : "") + CellToText(*array.type()->field(0), *slice, i);
      if (slice->length() > 3) out += ", … " + std::to_string(slice->length());
      return out + "]";
    }
    default: {
      const auto json = CellToJson(field, array, row);
      return json.is_string() ? Printable(json.get<std::string>(), 48) : json.dump();
    }
  }
}

std::string RowToJson(const arrow::RecordBatch& batch, int64_t row) {
  std::string line = "{";
  for (int c = 0; c < batch.num_columns(); ++c) {
    const auto& field = *batch.schema()->field(c);
    const auto& column = *batch.column(c);
    line += (c > 0 ? "," : "") + Dumped(field.name()) + ":";
    // Parsing would round long numbers. A newline may stand between tokens only, and would end the line.
    const bool raw = column.type_id() == arrow::Type::STRING && ExtensionOf(field) == "arrow.json";
    if (raw && column.IsValid(row)) {
      std::string text = static_cast<const arrow::StringArray&>(column).GetString(row);
      std::replace_if(
          text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
      line += text;
    } else {
      line += Dumped(CellToJson(field, column, row));
    }
  }
  return line + "}";
}

Result<int64_t> Render(arrow::RecordBatchReader* rows, const RenderOptions& options) {
  int64_t count = 0;
  std::vector<Column> columns;
  for (const auto& field : rows->schema()->fields()) {
    columns.push_back({field->name(), IsNumber(*field->type()), DisplayWidth(field->name())});
  }
  std::vector<std::vector<std::string>> cells;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) break;
    for (int64_t row = 0; row < batch->num_rows(); ++row, ++count) {
      if (options.json) {
        const std::string line = RowToJson(*batch, row) + "\n";
        std::fwrite(line.data(), 1, line.size(), stdout);
        if (std::ferror(stdout)) return Status::Io("cannot write to standard output");
      } else if (options.max_rows < 0 || count < options.max_rows) {
        std::vector<std::string> line;
        for (int c = 0; c < batch->num_columns(); ++c) {
          line.push_back(CellToText(*batch->schema()->field(c), *batch->column(c), row));
          auto& width = columns[static_cast<size_t>(c)].width;
          width = std::max(width, DisplayWidth(line.back()));
        }
        cells.push_back(std::move(line));
      }
    }
  }
  if (!options.json) {
    PrintTable(columns, cells, options);
    if (options.max_rows >= 0 && count > options.max_rows) {
      std::printf("… %s rows in all; these are the first %s. See all with --json, -o FILE or --rows -1.\n",
                  HumanCount(count).c_str(), HumanCount(options.max_rows).c_str());
    }
  }
  return count;
}

}  // namespace headrace::cli
