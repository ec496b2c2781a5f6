"""Which entries of a policy a test needs: the search, its verdicts, the runs behind them."""
