// What is recorded of runs: the columns of `runs`, `metrics` and `media` (docs/design/runs.md).
#include "trace/columns.h"

namespace headrace::trace {
namespace {

constexpr Column kRunColumns[] = {
    {"id", Type::kText},      // UUIDv7
    {"seq", Type::kInteger},  // ascends within a writer
    {"time", Type::kTime},
    {"writer", Type::kText},   // the spool that the row came from
    {"life", Type::kInteger},  // which start of the run: see MetricColumns
    {"kind", Type::kText},     // run, track, tune, eval, import
    {"name", Type::kText},
    {"project", Type::kText},
    {"parent", Type::kText},   // a run
    {"state", Type::kText},    // running, finished, failed, killed, interrupted
    {"reason", Type::kText},   // of the state, in words: the exception, the signal, the exit code
    {"started", Type::kTime},  // the first of its lives
    {"ended", Type::kTime},
    {"who", Type::kText},
    {"host", Type::kText},
    {"pid", Type::kInteger},
    {"slurm_job", Type::kText},
    {"code", Type::kJson},     // commit, branch, remote, sha256 of the difference,
                               // the script
    {"diff", Type::kText},     // of the working tree to the commit
    {"command", Type::kJson},  // a list of words
    {"env", Type::kJson},      // versions of Python, of packages, of the system; devices
    {"inputs", Type::kJson},   // a list: tables at versions, models by hash, artifacts
    {"outputs", Type::kJson},  // a list: artifacts by name and sha256
    {"config", Type::kJson},   // an object
    {"summary", Type::kJson},  // an object: of each key its last value, or what the program says
    {"tags", Type::kJson},     // a list of texts
    {"notes", Type::kText},
    {"again_of", Type::kText},   // the run that this one repeats
    {"resume_of", Type::kText},  // the run that this one goes on from, under an id of its own
};

// A row is up to kMostChunkPoints points of one key that one process logged one after another, in ascending
// order of their steps.
constexpr Column kMetricColumns[] = {
    {"run", Type::kText},
    {"key", Type::kText},
    {"rank", Type::kInteger},
    // Milliseconds since 1970 of the start that logged them, at least one more than any earlier life of the
    // run has. From its first step on, a later life's points stand in place of an earlier one's (view
    // `points`).
    {"life", Type::kInteger},
    {"from_step", Type::kInteger},
    {"to_step", Type::kInteger},
    {"n", Type::kInteger},
    {"time", Type::kTime},       // of its earliest point
    {"steps", Type::kIntegers},  // null: as many as `n`, equally far apart from from_step to to_step
    {"seconds", Type::kFloats},  // of each point, after `time`
    {"values", Type::kNumbers},
    {"min", Type::kNumber},  // of those that are numbers; null where none is
    {"max", Type::kNumber},
    {"first", Type::kNumber},
    {"last", Type::kNumber},
    {"mean", Type::kNumber},
    {"nans", Type::kInteger},  // how many values are not a number
    {"seq", Type::kInteger},
    {"writer", Type::kText},
};

constexpr Column kMediaColumns[] =
    {
        {"run", Type::kText},
        {"key", Type::kText},
        {"rank", Type::kInteger},
        {"life", Type::kInteger},
        {"step", Type::kInteger},
        {"index", Type::kInteger},  // in a list of them that was logged at once
        {"time", Type::kTime},
        {"kind", Type::kText},    // image, audio, video, text, table, histogram, json, file
        {"format", Type::kText},  // image/png, audio/wav, text/plain, …
        {"caption", Type::kText},
        {"sha256", Type::kText},  // of the bytes
        {"width", Type::kInteger},
        {"height", Type::kInteger},
        {"facts", Type::kJson},  // what else is known: a histogram's bins, a table's columns
        {"text", Type::kText},   // of text; of a table or a histogram, JSON
        {"data", Type::kBytes},
        {"seq", Type::kInteger},
        {"writer", Type::kText},
};

}  // namespace

std::span<const Column> RunColumns() { return kRunColumns; }
std::span<const Column> MetricColumns() { return kMetricColumns; }
std::span<const Column> MediaColumns() { return kMediaColumns; }

}  // namespace headrace::trace
