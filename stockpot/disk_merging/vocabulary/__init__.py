"""Models with unequal vocabularies: the output's tokenizer, and the rows of its embeddings."""
