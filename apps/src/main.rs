//! mutirao: spread work over machines without losing any of it.
fn main() {}
