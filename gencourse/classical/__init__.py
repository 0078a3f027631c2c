"""What needs no network: clusters, principal components, densities in a few dimensions (slides 8-12, chapter 1).

Lecture code, to be read beside the chapter: `kmeans`, `pca`, `density`. Everything takes points `(N, D)`, computes in float64,
and says likelihoods in nats. These are no models of the table: they know no grey levels and train no network.
"""
