//! rackbench: the bench tools of farmhand.

fn main() {}
