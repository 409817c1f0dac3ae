"""Pictures of searches and genotypes, drawn by matplotlib. Nothing else of the package needs it."""
