"""Denials: what an enforced or complaining profile refused or would have refused, and the rights that would end it."""
