"""What ingredients and soups are like, seen on train and val alone; one file a diagnostic."""
