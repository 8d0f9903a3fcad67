"""config.json of the models that are merged, and of the merged model."""
