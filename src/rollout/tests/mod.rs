mod examples;
mod explained;
mod gates;
mod invariants;
mod properties;
mod selectors;
mod sim;
mod told;
