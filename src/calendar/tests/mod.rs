mod brute_force;
mod examples;
