//! mutirao: spread work over machines without losing any of it.
#![allow(dead_code, unused_imports)]

mod dispatch;
mod ops;

fn main() {}
