//! An emulator of the AKS resource provider.
