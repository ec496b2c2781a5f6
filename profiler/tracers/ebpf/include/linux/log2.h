/* SPDX-License-Identifier: MIT */
#pragma once
static inline int ilog2(unsigned long long value)
{
    return 63 - __builtin_clzll(value);
}
