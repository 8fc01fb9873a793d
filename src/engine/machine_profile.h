// MachineProfile: every number in the engine that depends on what computes, with where it comes from. There
// are four kinds:
// - measured: what steps take. Of a model that has not run on this machine, memory is measured at the start
//   (memory_speed.h) and the other figures are guesses; CostTable learns them all from the first steps on
//   (seconds of a step by its rows, threads and attention, and whether decodes piggyback on prefill chunks)
//   and keeps them between runs, for each model, machine and device;
// - properties of kernels, the same on every machine that has these kernels: the tile, and what follows from
// it;
// - thresholds found by trial, between two costs that grow or fall slowly: half or twice as much changes
// little;
// - policy: what people notice, and who shares with whom.
// "2 cores": gemma3-270m Q4_K_M on 2 cores of an x86-64 server CPU.
#pragma once

#include <cstdint>
#include <limits>

namespace headrace::engine {

struct MachineProfile {
  // ---- rows of a step
  // Rows in which attention works; 0: no tiles. ggml's CPU flash attention computes a tile of 64 rows against
  // every cell that any of them sees (GGML_FA_TILE_Q); below 64 rows each row looks at its own cells only. 2
  // cores: 64 rows 200 ms, 66 rows 400 ms.
  int32_t tile = 64;
  // Requests from which on a step stays below a tile, since its rows see many users' cells. 2 cores,
  // bench_serve_load with 32 users and 7,000 cells: 240 rows/s in steps of 70 rows, 400 in steps of 63
  // (decision 012).
  int32_t crowd = 8;
  // A key that runs so many times fewer requests than the crowd's is light: its prompts take turns with the
  // crowd, and it may have a slot beyond the usual ones. Policy, by bench_serve_load (decision 012).
  int32_t light_ratio = 4;
  // Rows of prefill that are worth a place in a crowded step of decodes. A quarter of a tile.
  int32_t least_room = 16;
  // Rows of a prefill chunk while somebody watches. 2 cores, bench_engine_load: 4,000 tokens prefill equally
  // fast in chunks of 256 to 512; shorter chunks are slower, longer ones make gaps.
  int32_t chunk = 256;
  // Rows by which the first prompt in line moves in each step, whatever --max-itl leaves time for. Policy.
  int32_t least_chunk = 16;
  // Tokens that a grammar leaves no choice about, given in one step at most: they are computed like a decode,
  // whose step they lengthen. The end of a bin of the cost table.
  int32_t most_forced = 32;
  // Steps in a row with one adapter, where the decoder cannot mix them. Switching takes about 3 ms (2 cores).
  int32_t adapter_steps = 8;
  // Rows of a step whose logits are all wanted: 1 MB each at a vocabulary of 262,144.
  int32_t scored_rows = 64;

  // ---- time
  double short_gap =
      0.1;  // seconds between tokens that nobody sees: the limit of "instantaneous" (Nielsen 1993)
  double planned = 0.72;  // of --max-itl is planned; the rest is for steps that take longer than expected. By
                          // trial (bench_engine_load), not derived
  // Seconds of compute that a key of weight 1 may use before the next key's turn. Policy.
  double fair_quantum = 0.25;
  double patience = 8;  // seconds without a row, after which a prompt goes first whosever it is. Policy

  // ---- cells
  // Idle cells that stay in the cache beside running requests, and from how many running requests on only a
  // quarter of them. 2 cores, bench_engine_load: 28,000 idle cells slow down a step of 8 rows by a quarter.
  int32_t resident_cells = 8192;
  int32_t many_running = 16;
  // Shorter paths are computed again rather than copied to host memory and back, though saving 1,500 tokens
  // takes 3 ms and computing them 2 to 3 s (2 cores): many small states would fill the list that is searched.
  int32_t least_saved = 128;
  int32_t least_kept =
      16;  // tokens of a path that stays cached: fewer cost less than a step to compute again
  // Tokens that a running request is about to compute, for which another waits. About one step's.
  int32_t least_awaited = 32;

  // ---- speculation
  int32_t most_draft = 31;  // with the sampled token 32 rows, the end of a bin of the cost table

  // ---- encoders (embed_queue.h), by trial with all-MiniLM-L6 in half precision on 2 cores
  // Tokens of a lane's step. Texts of one step attend only to themselves, but their scores are computed as
  // one square: the cost grows with the square of the step's tokens. A few hundred are where weights and
  // squares balance.
  int32_t lane_step = 256;
  int32_t lane_rows = 512;   // of the longest text that a lane takes, and of a step with several texts
  int32_t lane_turns = 4;    // steps of each lane in a round, while nobody else wants to compute
  int32_t worth_lanes = 48;  // tokens: below, one context with all threads is sooner done
  int32_t most_lanes = 8;    // each has a context and its memory. Policy

  // ---- threads
  int32_t all_threads_rows = 17;  // from here on arithmetic, not memory, takes the time: all threads. 2 cores
  int32_t draw_threads = 8;       // that sample at most: a step's rows are few

  // ---- what steps take, before any was measured; the first steps replace it, and later runs begin with
  // those
  double bytes_per_second = 10e9;  // of weights that a step reads. Of a CPU memory is measured at the start
                                   // of a new model; this is a low figure for a server's
  double memory_share = 0.5;  // of the measured figure: weights are unpacked as they are read. 18 of 38 GB/s
                              // by one core, gemma3-270m Q4_K_M on an AMD EPYC
  double row_cost = 0.14;  // of a further row, in times the first: steps of 1, 4, 8, 16, 32 rows take 12, 40,
                           // 43, 63, 113 ms with outputs (2 cores)
  double thread_share = 0.6;       // of one thread's speed that each further thread adds. A guess
  double attended_seconds = 4e-8;  // of one row attending to one cached token (2 cores, by trial)

  static MachineProfile Cpu() { return {}; }
  // Where a model's layers lie on a GPU. Not measured by us: from papers and arithmetic.
  static MachineProfile Gpu() {
    MachineProfile gpu;
    gpu.tile = 0;  // its attention kernels split rows and cells over the device: no such step at 64 rows
    gpu.chunk =
        512;  // Sarathi-Serve's budget for strict targets (Agrawal et al. 2024, section 5), and max_rows
    gpu.resident_cells = std::numeric_limits<int32_t>::max();  // 8,192 cells of 18 KB are 0.1 ms at 1 TB/s
    gpu.bytes_per_second = 1e12;                               // of the order of HBM and GDDR6X
    gpu.row_cost = 0.01;           // weights are what a step waits for, up to hundreds of rows
    gpu.attended_seconds = 4e-10;  // in the proportion of the bandwidths
    return gpu;
  }
};

}  // namespace headrace::engine
