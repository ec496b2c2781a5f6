"""State facts about Linux as data next to small readers. This package knows nothing of traces, policies or targets."""
