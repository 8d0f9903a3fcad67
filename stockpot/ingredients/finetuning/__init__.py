"""Fine-tuning: how a base becomes an ingredient."""
