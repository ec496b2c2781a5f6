"""The live view: a full-screen view of a recording while it runs, in a process of its own."""
