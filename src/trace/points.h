// points: values that a run logged, on their way from a spool's records to rows of `metrics`, which hold up
// to kMostChunkPoints of one key.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace headrace::trace {

inline constexpr size_t kMostChunkPoints = 1024;

// A record of values: their step, when they were logged (microseconds since 1970), and (number of a key,
// value).
std::string EncodePoints(int64_t step, int64_t micros, std::span<const std::pair<uint32_t, double>> values);
void EncodePointsInto(int64_t step, int64_t micros, std::span<const std::pair<uint32_t, double>> values,
                      std::string* to);
std::string EncodeKey(uint32_t number, std::string_view key);

class PointChunks {
 public:
  struct Series {
    std::string run;
    int64_t rank = 0, life = 0;
    std::string writer;
  };
  struct Point {
    int64_t step = 0;
    int64_t micros = 0;
    double value = 0;
  };

  // Keys and points that come now are of this series, and their numbers are new.
  void Begin(Series series);
  // False where the record is not what EncodeKey and EncodePoints make.
  bool AddKey(std::string_view payload);
  // `sequence`: of the record. Chunks that are full are added to `rows`. `last_micros` becomes the time of
  // the last point.
  bool Add(std::string_view payload, int64_t sequence, std::vector<nlohmann::json>* rows,
           int64_t* last_micros);
  // Chunks as they are, as rows.
  void Flush(std::vector<nlohmann::json>* rows);
  void Drop();
  int64_t waiting() const { return waiting_; }  // points in chunks
  // Points are only looked at for their last values: nobody wants their rows.
  void OnlyLast() { only_last_ = true; }
  // The last value of each key that had one, but for those below sys/.
  std::vector<std::pair<std::string, double>> Last() const;

 private:
  struct Chunk {
    std::string key;
    std::vector<Point> points;
    int64_t sequence = 0;
    bool any = false;
    double last = 0;
  };

  void FlushChunk(Chunk* chunk, std::vector<nlohmann::json>* rows);

  Series series_;
  std::vector<Chunk> chunks_;
  std::map<std::string, size_t, std::less<>> known_;  // the chunk of a key
  std::vector<size_t> numbers_;                       // the chunk of a number; kNone
  int64_t waiting_ = 0;
  bool only_last_ = false;
};

}  // namespace headrace::trace
