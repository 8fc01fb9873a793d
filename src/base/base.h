// base: what every module uses. Begin with status.h.
#pragma once

#include "base/cancel.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/progress.h"
#include "base/status.h"
#include "base/task_pool.h"
