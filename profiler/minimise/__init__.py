"""Find which entries of a policy a test needs: the search, its verdicts, and the runs behind them."""
