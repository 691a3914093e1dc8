"""The auditors' pages: a process that reads the log and can release nothing."""
