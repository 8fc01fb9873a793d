// One put-if-absent whose answer may be lost, settled by reading the key back.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "store/object_store.h"

namespace headrace::table {

// Whether an operation may have taken effect although it failed.
bool Ambiguous(const Status& status);

// Waits a random time that grows with the attempt, at most 0.1 s.
void Backoff(int64_t attempt);

// Puts `text` at `key` if nothing is there. True: it stands there. False: another's does; `ours` tells which,
// from the bytes. Unknown where the store never said: `what` then names what may have happened. After any
// other error nothing of it stands there, and nothing will.
Result<bool> PutSettled(store::ObjectStore* store, const std::string& key, const std::string& text,
                        const std::function<Result<bool>(std::string_view)>& ours, const std::string& what);

// Puts `text` at `key` if nothing is there, and gives what stands there: many may put different texts, and
// all get the first's. Errors as above.
Result<std::string> PutFirst(store::ObjectStore* store, const std::string& key, const std::string& text);

}  // namespace headrace::table
