//! The command line of farmhand.

fn main() {}
