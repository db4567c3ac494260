mod changes_of_step;
mod examples;
mod explained;
mod gates;
mod invariants;
mod properties;
mod selectors;
mod sim;
