// run_slurm: what Slurm says became of the jobs that runs were in. Asked of its own programs, where they are
// on the path.
#pragma once

#include <map>
#include <set>
#include <string>

namespace headrace::cli {

struct SlurmJob {
  std::string state;  // as Slurm writes it: RUNNING, TIMEOUT, …
  std::string user;
};

// By the job's id. Those that Slurm knows nothing of are not among them: all, where there is no Slurm, or it
// says nothing for five seconds. Answers are used again for 30 seconds. Jobs that squeue has forgotten are
// looked up in the accounts (sacct), where Slurm keeps any.
std::map<std::string, SlurmJob> SlurmJobs(const std::set<std::string>& ids);

// Whether nothing of a job in this state goes on.
bool HasEnded(const SlurmJob& job);

}  // namespace headrace::cli
