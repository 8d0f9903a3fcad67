"""The order of work: one flow per stage, one for the experiment, and the `stockpot` command."""
