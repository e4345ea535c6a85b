"""Training data: clips, random access to their frames, pairs and triples, augmentation, preparation."""
