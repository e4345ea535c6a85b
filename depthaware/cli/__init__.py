"""The `depthaware` command: `main`, and one file a subcommand."""
