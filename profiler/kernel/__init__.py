"""Facts about Linux, as data beside small readers. Nothing here knows of traces, policies or targets."""
