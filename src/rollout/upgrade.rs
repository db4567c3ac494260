//! What to do next on one cluster.
