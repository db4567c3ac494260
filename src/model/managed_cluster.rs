//! What a fleet manager reads of an AKS cluster.
