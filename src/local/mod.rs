//! What only a local world needs: keys that sign its tokens, and a sample fleet.

pub mod keys;
pub mod sample;
