"""Training: one LightningModule around any loss."""
