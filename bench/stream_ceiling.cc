// The ceiling of a picture stream: the same decode, crop and resize in a bare loop over pictures in memory,
// one thread per core, written into a batch's slots. Prints images a second.
//
//   bench_stream_ceiling FOLDER THREADS SECONDS
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "media/media.h"
#include "stream/image_ops.h"
#include "stream/permute.h"

int main(int argc, char** argv) {
  using namespace headrace;
  if (argc < 4) return 2;
  std::vector<std::string> pictures;
  std::vector<media::ImageFacts> facts;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream in(entry.path(), std::ios::binary);
    pictures.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    facts.push_back(media::ProbeImage(pictures.back()).value());
  }
  const auto ops = stream::ImageOps::Parse(R"([{"op": "random_resized_crop", "size": [224, 224]}])").value();
  const int threads = std::atoi(argv[2]);
  const double seconds = std::atof(argv[3]);
  std::atomic<uint64_t> next{0};
  std::atomic<int64_t> done{0};
  const double start = MonotonicSeconds();
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&] {
      media::Scratch scratch;
      media::Canvas canvas;
      std::vector<uint8_t> batch(static_cast<size_t>(64 * ops.bytes()));
      while (MonotonicSeconds() - start < seconds) {
        const uint64_t i = next.fetch_add(1);
        const size_t at = i * 2654435761ULL % pictures.size();
        const Status status = ops.Run(pictures[at], facts[at], stream::Mix(i), &scratch, &canvas,
                                      batch.data() + static_cast<int64_t>(i % 64) * ops.bytes());
        if (!status.ok()) std::exit(1);
        done += 1;
      }
    });
  }
  for (auto& thread : running) thread.join();
  std::printf("%.1f\n", static_cast<double>(done) / (MonotonicSeconds() - start));
  return 0;
}
