"""The metrics as modules of Hugging Face evaluate, thin wrappers around ``factdata.metrics``."""
