//! mutirao
