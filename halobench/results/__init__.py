"""Results: the record of a run and the append-only store of records."""
