"""Sources of feedback that read files, one per data set."""
