// The vendor's header, with every symbol of its API exported and none of it renamed by macros.
#pragma once

#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#pragma GCC visibility push(default)
#include <nvml.h>
#pragma GCC visibility pop
