// The conflict matrix: what happens to a change of mine when others committed between the version that I read
// and the head that I land on (snapshot isolation). A cell names the rules that must hold; where it names
// none, the change is rebased: applied to the newer head as if nothing had happened.
//
// A rule compares what the change remembers (fields, holes, items, the tag) with the head, and finds nothing
// where nobody touched those things. So a commit runs every rule of its row once, and need not learn which
// kinds of commits came between: that would cost a read for each, and a backfill of three days may have a
// hundred thousand of them above its base (docs/decisions/025).
#pragma once

#include <cstdint>

#include "table/change.h"
#include "table/view.h"

namespace headrace::table {

// A set of rules.
enum Rule : uint32_t {
  kRebase = 0,
  kSameFields = 1,   // Conflict if a field that I read, wrote or change was dropped, renamed or retyped
  kFreeNames = 2,    // Conflict (AlreadyExists for a rename) if a column has a name that I give
  kOpenHoles = 4,    // Conflict if a (fragment, field) that I fill was filled, or I may not follow its rows
  kSameTag = 8,      // AlreadyExists if the tag is on another version, and that is not expected
  kNewItems = 16,    // Conflict if an item whose rows I append was taken in
  kSameValues = 32,  // Conflict if a value that I read or change is another now, in the fragments that I used
                     // or, where I fill, in those that have their rows now
  kFreeKeys = 64,    // Conflict if rows were appended that have a key of mine
  kSameFragments =
      128,            // Conflict if a value is another now in fragments that I write anew, or a row is back
  kRetained = 256,    // Conflict if the version that I name expired
  kUncollected = 512  // Conflict if files that I wrote may have been collected
};
constexpr Rule operator|(Rule a, Rule b) {
  return static_cast<Rule>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}

// clang-format off
inline constexpr Rule kFillAfterFill = kFreeNames | kOpenHoles | kSameValues;
inline constexpr Rule kKeyedRows = kFreeKeys | kNewItems;  // by a key, or by the items that they came from
inline constexpr Rule kConflictMatrix[kOperationKinds][kOperationKinds] = {
// mine \ theirs    create   append     add columns, fill  schema change             tag       reserve  delete       update          merge                    restore                                              compact                   retain   expire   sort
/* create       */ {kRebase, kRebase,   kRebase,           kRebase,                  kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRebase, kRebase},
/* append       */ {kRebase, kNewItems, kRebase,           kSameFields,              kRebase,  kRebase, kRebase,     kRebase,        kNewItems,               kSameFields,                                         kRebase,                  kRebase, kUncollected, kRebase},
/* fill         */ {kRebase, kRebase,   kFillAfterFill,    kSameFields | kFreeNames, kRebase,  kRebase, kRebase,     kSameValues,    kSameValues,             kSameFields | kFreeNames | kOpenHoles | kSameValues, kOpenHoles | kSameValues, kRebase, kUncollected, kRebase},
/* schema change*/ {kRebase, kRebase,   kFreeNames,        kSameFields | kFreeNames, kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kSameFields | kFreeNames,                            kRebase,                  kRebase, kRebase, kRebase},
/* tag          */ {kRebase, kRebase,   kRebase,           kRebase,                  kSameTag, kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRetained, kRebase},
/* reserve      */ {kRebase, kRebase,   kRebase,           kRebase,                  kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRebase, kRebase},
/* delete       */ {kRebase, kRebase,   kSameValues,       kSameFields,              kRebase,  kRebase, kRebase,     kSameValues,    kSameValues,             kSameFields | kSameValues,                           kSameValues,              kRebase, kRebase, kRebase},
/* update       */ {kRebase, kRebase,   kSameValues,       kSameFields,              kRebase,  kRebase, kRebase,     kSameValues,    kSameValues,             kSameFields | kSameValues,                           kSameValues,              kRebase, kUncollected, kRebase},
/* merge        */ {kRebase, kKeyedRows, kSameValues,      kSameFields,              kRebase,  kRebase, kRebase,     kSameValues,    kSameValues | kKeyedRows, kSameFields | kSameValues | kFreeKeys,               kSameValues,              kRebase, kUncollected, kRebase},
/* restore      */ {kRebase, kRebase,   kRebase,           kRebase,                  kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRetained, kRebase},
/* compact      */ {kRebase, kRebase,   kSameFragments,    kRebase,                  kRebase,  kRebase, kRebase,     kSameFragments, kSameFragments,          kSameFragments,                                      kSameFragments,           kRebase, kUncollected, kRebase},
/* retain       */ {kRebase, kRebase,   kRebase,           kRebase,                  kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRebase, kRebase},
/* expire       */ {kRebase, kRebase,   kRebase,           kRebase,                  kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kRebase,                                             kRebase,                  kRebase, kRebase, kRebase},
/* sort         */ {kRebase, kRebase,   kRebase,           kSameFields,              kRebase,  kRebase, kRebase,     kRebase,        kRebase,                 kSameFields,                                         kRebase,                  kRebase, kRebase, kRebase},
};
// clang-format on

// The rules that must hold for `mine` after `theirs`.
constexpr Rule RulesFor(OperationKind mine, OperationKind theirs) {
  return kConflictMatrix[static_cast<int>(mine)][static_cast<int>(theirs)];
}

// Whether the change still makes sense on this head: all rules of its row. `broken`, if given, is set to the
// one that does not hold, or to kRebase.
Status CheckConflicts(const Change& change, const View& head, Rule* broken = nullptr);

}  // namespace headrace::table
