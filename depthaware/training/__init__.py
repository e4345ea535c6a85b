"""Training: the parts that the recipes share."""
