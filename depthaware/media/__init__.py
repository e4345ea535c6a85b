"""Images, video and sound in files; atomic writes; threads that read and write ahead."""
