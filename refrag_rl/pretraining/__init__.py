"""Making a frozen REFRAG: language modelling, reconstruction, continual pre-training."""
