"""From merge file and headers to a plan: one entry per output tensor."""
