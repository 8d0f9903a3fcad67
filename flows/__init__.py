"""The order of work: one flow a stage, one for the experiment, and the `stockpot` command."""
