#!/usr/bin/python3 -I
"""Run profgen with the libraries that its package brings."""

import sys

sys.path.insert(0, "/usr/lib/profgen")

from profiler.__main__ import main

sys.exit(main())
