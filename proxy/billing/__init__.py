"""The ledger, the price book, estimates and reports."""
