"""The subcommands, a file each: `add` declares the options, `run` does the work and says what was made."""
