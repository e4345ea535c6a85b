"""From raw videos to clips of one face each."""
