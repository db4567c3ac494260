mod examples;
mod invariants;
mod properties;
mod sim;
mod told;
