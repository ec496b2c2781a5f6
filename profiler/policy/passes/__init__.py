"""One pass a module: a pure function (policy, trace, options) to policy. derive.py holds the list that runs them."""
