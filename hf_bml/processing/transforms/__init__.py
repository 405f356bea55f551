"""What turns a column into tensors: one file a transform."""
