"""Published sizes of models and data sets, for planning what is not on this machine."""
